"""Batches of one size, and single samples where that changes no value."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sktransfer.compute import map_state, n_samples, pad_rows, switches_of, take_rows

_VECTORS = 64  # values that are at least processed at a time
# Operations that the trial is sure about, and those that do not round.
_TRIED = frozenset(
    (
        "convolution _convolution mkldnn_convolution _convolution_pointwise conv2d "
        "linear addmm mm bmm baddbmm matmul view _unsafe_view reshape _reshape_alias "
        "flatten permute transpose t expand unsqueeze squeeze slice select split "
        "as_strided alias detach clone copy_ _to_copy to contiguous cat stack empty "
        "empty_like empty_strided zeros pad constant_pad_nd relu relu_ hardtanh "
        "hardtanh_ clamp clamp_ max_pool2d max_pool2d_with_indices"
    ).split()
)
_known: WeakKeyDictionary[nn.Module, dict[tuple, bool]] = WeakKeyDictionary()


def filled(z: Any, size: int) -> Any:
    """Fill a batch up with zeros to a size (tensor or dict of such)."""
    return map_state(lambda tensor: pad_rows(tensor, size), z)


def run_filled(
    function: Callable,
    z: Any,
    size: int,
    network: nn.Module,
    *,
    may_be_alone: bool = False,
) -> Any:
    """Compute a batch with the values that it has in a batch of a size.

    Batches of different sizes are computed by different routines, which may round
    differently, so a smaller batch is filled up. That makes one sample as slow as a
    batch. With `may_be_alone`, one sample is therefore computed as it is, where that
    surely gives the same values; see :func:`_is_same_alone`.

    Parameters
    ----------
    function : callable
        `network`, a method of it, or what runs it. It takes and returns a tensor of
        shape (n, ...) or, without `may_be_alone`, a dict of such.
    z : Tensor of shape (n, ...) or dict of such
        On the device of the network.
    size : int
    network : Module
    may_be_alone : bool, default=False

    Returns
    -------
    Tensor of shape (n, ...) or dict of such
    """
    n = n_samples(z)
    is_alone = may_be_alone and n == 1 and isinstance(z, torch.Tensor)
    if n == size or (is_alone and _is_same_alone(function, z, size, network)):
        return function(z)
    return take_rows(function(filled(z, size)), slice(n))


def _is_same_alone(function, z, size, network):
    """Return whether single samples get the values that they have in a batch.

    Convolutions and products are computed by routines that are chosen by the shape, and
    another routine rounds nearly all results differently. So these are tried on random
    numbers, as many samples as a batch has. Other operations go through a tensor in
    vectors, and may round what is left at its end differently, which is rare. So these
    must leave nothing, unless they do not round. The trial is made once for a network
    and a shape.
    """
    known = _known.setdefault(network, {})
    device = z.device
    named = getattr(function, "__name__", ""), torch.is_autocast_enabled(device.type)
    key = (*named, size, z.shape, z.stride(), z.dtype, *switches_of(device))
    if key not in known:
        known[key] = z.is_floating_point() and _try(function, z, size)
    return known[key]


def _try(function, z, size):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn((size, *z.shape[1:]), generator=generator)
    rows = [torch.empty_like(z).copy_(row[None]) for row in drawn]  # with its strides
    try:
        with _Remainders() as remainders:
            alone = [function(row.clone()) for row in rows[:1]]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # fused layers of torch cannot be looked into
        return False
    if remainders.were_found:
        return False
    alone += [function(row.clone()) for row in rows[1:]]
    return torch.equal(torch.cat(alone), function(torch.cat(rows)))


class _Remainders(TorchDispatchMode):
    """Notes whether an operation leaves values that do not fill a vector."""

    def __init__(self):
        super().__init__()
        self.were_found = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operation, and look at its results."""
        found = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ not in _TRIED:
            results = found if isinstance(found, tuple | list) else [found]
            self.were_found |= any(
                isinstance(part, torch.Tensor) and part.numel() % _VECTORS
                for part in results
            )
        return found
