"""Networks that are kept whole, and what they return."""

import torch
from torch import nn

from sktransfer.backbones._purity import tensors_in

__all__ = ["Unpacked", "Whole", "first_line", "place_of"]


class Whole(nn.Sequential):
    """Holds a network that cannot be cut as one layer."""


class Unpacked(nn.Module):
    """Returns the one tensor in what a network returns."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        (tensor,) = tensors_in(self.network(x))
        return tensor


def place_of(value):
    """Write how to get a tensor out of a container: the first of a dict, or the last.

    Lists of maps go from the first layers to the last ones; dicts begin with the
    output.

    Parameters
    ----------
    value : object
        What a network returns.

    Returns
    -------
    str
        What comes after the value in Python.

    Examples
    --------
    >>> import torch
    >>> place_of({"features": [torch.zeros(1), torch.zeros(1)], "other": None})
    "['features'][-1]"
    """
    if isinstance(value, dict):
        keys = [key for key in value if tensors_in(value[key])]
        return f"[{keys[0]!r}]{place_of(value[keys[0]])}" if keys else "['name']"
    if isinstance(value, tuple | list):
        at = [i for i, part in enumerate(value) if tensors_in(part)]
        last = at[-1] - len(value) if at else -1
        return f"[{last}]{place_of(value[last])}" if at else "[-1]"
    return "" if isinstance(value, torch.Tensor) else ".name"


def first_line(error):
    """Return the first line of what an exception says (str).

    Parameters
    ----------
    error : Exception
    """
    return str(error).strip().splitlines()[0]
