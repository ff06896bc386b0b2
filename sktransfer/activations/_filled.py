"""Batches of one size, and single samples where that changes no value."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from sktransfer.compute import map_state, n_samples, pad_rows, switches_of, take_rows

_known: WeakKeyDictionary[nn.Module, dict[tuple, bool]] = WeakKeyDictionary()


def filled(z: Any, size: int) -> Any:
    """Fill a batch up with zeros to a size (tensor or dict of such)."""
    return map_state(lambda tensor: pad_rows(tensor, size), z)


def run_filled(function: Callable, z: Any, size: int, network: nn.Module) -> Any:
    """Compute a batch with the values that it has in a batch of a size.

    Batches of different sizes are computed by different routines, which may round
    differently, so a smaller batch is filled up. That would make one sample as slow as
    a batch. It is computed as it is where a trial on random numbers of its shape gives,
    bit for bit, what a whole batch gives, as routines are chosen by the shape and not
    by the values. The trial is made once for a network and a shape.

    Parameters
    ----------
    function : callable
        `network`, a method of it, or what runs it. It takes and returns a tensor of
        shape (n, ...) or a dict of such.
    z : Tensor of shape (n, ...) or dict of such
        On the device of the network.
    size : int
    network : Module

    Returns
    -------
    Tensor of shape (n, ...) or dict of such
    """
    n = n_samples(z)
    if n == size or (n == 1 and _is_same_alone(function, z, size, network)):
        return function(z)
    return take_rows(function(filled(z, size)), slice(n))


def _is_same_alone(function, z, size, network):
    """Return whether one sample gets the same values as at the start of a batch."""
    known = _known.setdefault(network, {})
    device = next(iter(z.values())).device if isinstance(z, dict) else z.device
    of_function = (
        getattr(function, "__name__", ""),
        torch.is_autocast_enabled(device.type),
    )
    key = (*of_function, size, *_layout(z), *switches_of(device))
    if key not in known:
        tried = map_state(_random_like, z)
        whole = function(filled(tried, size))
        known[key] = _equal(function(tried), take_rows(whole, slice(1)))
    return known[key]


def _layout(z):
    parts = z.values() if isinstance(z, dict) else [z]
    return tuple((part.shape, part.stride(), part.dtype) for part in parts)


def _random_like(z):
    """Draw normal numbers in place of real ones; whole numbers and masks remain."""
    if not z.is_floating_point():
        return z
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(z.shape, generator=generator).to(z.device, z.dtype)
    return torch.empty_like(z).copy_(drawn)  # with the strides of z


def _equal(a, b):
    if isinstance(a, dict):
        return all(torch.equal(a[name], b[name]) for name in a)
    return torch.equal(a, b)
