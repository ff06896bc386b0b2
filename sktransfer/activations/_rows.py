"""Activations of single samples as arrays, and batches of them as tensors."""

import numpy as np
import torch

from sktransfer.utils import get_config

__all__ = ["storage_dtype", "to_rows", "to_tensor"]

# Bits of float16: 1e-3, beside which its smallest steps (6e-8) are small, and infinity.
_SMALL, _INFINITY = 0x1419, 0x7C00


def storage_dtype(shape):
    """Return what the activation of one sample is kept in.

    Parameters
    ----------
    shape : tuple of int
        Of one sample's activation.

    Returns
    -------
    numpy.dtype
        See ``activation_dtype`` in :func:`sktransfer.set_config`.
    """
    dtype = get_config()["activation_dtype"]
    if dtype == "auto":
        dtype = "float16" if len(shape) > 1 else "float32"
    return np.dtype(dtype)


def to_rows(z):
    """Cut a batch of activations into rows that can be kept.

    Parameters
    ----------
    z : torch.Tensor of shape (n, ...)

    Returns
    -------
    list of ndarray
        Each owns its memory. A row that float16 does not hold well stays in float32:
        one with values beyond its range, or with small ones alone.
    """
    if z.dtype == torch.uint8:
        return [row.copy() for row in z.cpu().numpy()]
    if storage_dtype(z.shape[1:]) == np.float32:
        return _cut(z.float())
    half = z.contiguous().float().half()
    rows = _cut(half)
    for i in _unfit(half):
        (rows[i],) = _cut(z[[i]].float())
    return rows


def _cut(z):
    return [row.copy() for row in z.contiguous().cpu().numpy()]


def _unfit(half):
    """Positions of the rows that float16 does not hold well, or that are all zero.

    Without its sign, the bits of a float16 order it as an integer, which is many times
    as fast to compare; infinity and NaN come last.
    """
    bits = half.view(torch.int16).bitwise_and(0x7FFF).flatten(1)
    largest = bits.amax(1)
    return ((largest < _SMALL) | (largest >= _INFINITY)).nonzero().flatten().tolist()


def to_tensor(rows):
    """Join rows to a batch.

    Parameters
    ----------
    rows : list of ndarray of the same shape

    Returns
    -------
    torch.Tensor of shape (n, ...)
        float32, or uint8 where the rows are; on the CPU.
    """
    batch = torch.from_numpy(np.stack(rows))
    return batch if batch.dtype == torch.uint8 else batch.float()
