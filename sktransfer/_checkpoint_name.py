"""The name of a fit among those that keep their state in one folder."""

import warnings

import numpy
import PIL
import sklearn
import skorch
import timm
import torch
import torchvision

from sktransfer.activations import digest
from sktransfer.utils import Description, describe

__all__ = ["checkpoint_name", "describe_data"]

_LIBRARIES = [PIL, numpy, skorch, sklearn, timm, torch, torchvision]


def checkpoint_name(settings, data):
    """Name a fit by all that its result depends on.

    Parameters
    ----------
    settings : dict
        By name, whatever changes the result, or a `Description` of it.
    data : list of bytes
        Hashes of samples, targets and weights.

    Returns
    -------
    str or None
        Hexadecimal, 32 digits. The same in every process. None, with a warning, if
        some of the settings cannot be described.
    """
    settings = {**settings, "libraries": _LIBRARIES}
    described = {name: _describe(value) for name, value in settings.items()}
    unknown = {k: d.reason for k, d in described.items() if not d.is_complete}
    if unknown:
        reasons = "; ".join(f"`{name}`: {reason}" for name, reason in unknown.items())
        warnings.warn(
            "`checkpoint` needs settings that can be compared when the fit is called "
            f"again, but some cannot be described ({reasons}). So no state is kept, "
            "and a killed fit starts anew. Pass objects without open files, whose code "
            "finds what it uses by name, or set `checkpoint=None`.",
            UserWarning,
            stacklevel=2,
        )
        return None
    words = [w for name, d in sorted(described.items()) for w in (name, d.digest)]
    return digest(*words, "data", *data).hex()[:32]


def describe_data(digests, y, weight):
    """Tell samples, targets and weights from others.

    Parameters
    ----------
    digests : list of bytes
        Of the samples.
    y, weight : ndarray

    Returns
    -------
    list of bytes
    """
    shape = f"{y.dtype} {y.shape}".encode()
    return [*digests, shape, y.tobytes(), weight.tobytes()]


def _describe(value):
    return value if isinstance(value, Description) else describe(value)
