"""States between stages: one tensor, or a dict of tensors.

The first dimension of every tensor of a state is that of the samples.
"""

import math
from dataclasses import is_dataclass

import torch

__all__ = [
    "is_plain",
    "is_state",
    "n_values",
    "shape_of_sample",
    "shape_text",
    "tensors_in",
]


def tensors_in(value):
    """List the tensors in what a network returned, in order.

    Parameters
    ----------
    value : object
        A tensor, or tuples, lists, dicts and dataclasses of tensors.

    Returns
    -------
    list of torch.Tensor
    """
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif is_dataclass(value):
        value = vars(value).values()
    elif not isinstance(value, tuple | list):
        return []
    return [tensor for part in value for tensor in tensors_in(part)]


def is_plain(x):
    """Whether model inputs are one tensor of floating point, which can be drawn."""
    return isinstance(x, torch.Tensor) and x.is_floating_point()


def is_state(value, n):
    """Whether a value is a state of n samples."""
    tensors = [*value.values()] if isinstance(value, dict) else [value]
    are_tensors = all(isinstance(t, torch.Tensor) for t in tensors)
    return bool(tensors) and are_tensors and all(t.shape[:1] == (n,) for t in tensors)


def shape_of_sample(value):
    """Return the shape of one sample: a tuple, of a group a dict, None without one."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape[1:])
    if not isinstance(value, dict) or not value:
        return None
    if not all(isinstance(tensor, torch.Tensor) for tensor in value.values()):
        return None
    return {name: tuple(tensor.shape[1:]) for name, tensor in value.items()}


def n_values(shape):
    """Return how many values a state has per sample, whose shape is given (int)."""
    shapes = shape.values() if isinstance(shape, dict) else [shape]
    return sum(map(math.prod, shapes))


def shape_text(shape):
    """Write the shape of a batch, where that of one sample is given (str).

    Examples
    --------
    >>> shape_text((3, 64, 64))
    '(n, 3, 64, 64)'
    >>> shape_text({"ids": (7,), "mask": (7,)})
    "{'ids': (n, 7), 'mask': (n, 7)}"
    """
    if isinstance(shape, dict):
        parts = (f"{name!r}: {shape_text(part)}" for name, part in shape.items())
        return f"{{{', '.join(parts)}}}"
    return f"({', '.join(map(str, ('n', *shape)))})"
