"""Checks of the parameters of preprocessings of images."""

from math import isfinite
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch

from sktransfer.inputs._reading import to_numpy


def is_length(value: Any) -> bool:
    """Return whether a value is a positive int, such as a length in px."""
    is_int = isinstance(value, Integral) and not isinstance(value, bool)
    return is_int and int(value) >= 1


def is_size(value: Any) -> bool:
    """Return whether a value is a pair of positive ints, as a height and a width."""
    is_pair = isinstance(value, tuple | list) and len(value) == 2
    return is_pair and all(map(is_length, value))


def channel_values(given: Any) -> tuple[float, ...]:
    """Return finite numbers, one per channel, as a tuple of float.

    They are in a sequence, an array or a tensor. Anything else gives an empty tuple.
    """
    values = to_numpy(given) if isinstance(given, torch.Tensor) else given
    values = tuple(values) if np.iterable(values) else ()
    if not all(isinstance(v, Real) and isfinite(v) for v in values):
        return ()
    return tuple(float(v) for v in values)
