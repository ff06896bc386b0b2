"""Activations of single samples as arrays, and batches of them as tensors."""

import numpy as np
import torch

__all__ = ["as_stored", "storage_dtype", "to_rows", "to_tensor"]

# Bits of float16: 1e-3, beside which its smallest steps (6e-8) are small, and infinity.
_SMALL, _INFINITY = 0x1419, 0x7C00


def storage_dtype(shape, activation_dtype):
    """Return what the activation of one sample is kept in.

    Parameters
    ----------
    shape : tuple of int
        Of one sample's activation.
    activation_dtype : {"auto", "float16", "float32"}
        See :func:`sktransfer.set_config`.

    Returns
    -------
    numpy.dtype
    """
    if activation_dtype == "auto":
        activation_dtype = "float16" if len(shape) > 1 else "float32"
    return np.dtype(activation_dtype)


def as_stored(z, activation_dtype):
    """Round a batch of activations to the values that its rows are kept in.

    What is computed from the result is the same, bit for bit, as what is computed from
    rows that were stored and read again.

    Parameters
    ----------
    z : torch.Tensor of shape (n, ...)
    activation_dtype : {"auto", "float16", "float32"}

    Returns
    -------
    torch.Tensor of the same shape
        float32, on the same device; uint8 stays as it is.
    """
    if z.dtype == torch.uint8:
        return z
    if storage_dtype(z.shape[1:], activation_dtype) == np.float32:
        return z.float()
    half = z.half()
    rounded = half.float()
    unfit = _unfit(half)
    if unfit:
        rounded[unfit] = z[unfit].float()
    return rounded


def to_rows(z, activation_dtype):
    """Cut a batch of activations into rows that can be kept.

    Parameters
    ----------
    z : torch.Tensor of shape (n, ...)
    activation_dtype : {"auto", "float16", "float32"}

    Returns
    -------
    list of ndarray
        Each owns its memory. A row that float16 does not hold well stays in float32:
        one with values beyond its range, or with small ones alone.
    """
    if z.dtype == torch.uint8:
        return _cut(z)
    if storage_dtype(z.shape[1:], activation_dtype) == np.float32:
        return _cut(z.float())
    half = z.contiguous().half()
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
    if not half[0].numel():
        return []
    largest = _in_memory_order(half).view(torch.int16).bitwise_and(0x7FFF).amax(1)
    return ((largest < _SMALL) | (largest >= _INFINITY)).nonzero().flatten().tolist()


def _in_memory_order(z):
    """Flatten all but the first axis, in the order that needs no copy."""
    axes = sorted(range(1, z.ndim), key=z.stride, reverse=True)
    return z.permute(0, *axes).reshape(len(z), -1)


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
