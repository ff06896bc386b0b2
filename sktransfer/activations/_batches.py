"""Samples at a boundary: the form of a batch of them, and where batches come from.

The state of a batch is a tensor of shape (n, ...) or a dict of names to such tensors,
as hidden states and the mask that marks which of them are real. The row of a sample is
an array or a dict of arrays. Its shapes are a function of that sample alone: a batch of
a pass holds samples of one shape, so that what becomes of one does not depend on the
others.
"""

from collections import defaultdict
from contextlib import closing

import numpy as np
import torch

from sktransfer.compute import map_state
from sktransfer.inputs import iter_batches

__all__ = [
    "as_stored",
    "n_bytes",
    "read_batches",
    "recall_batches",
    "shape_after",
    "shape_of",
    "to_rows",
    "to_tensor",
]

# Bits of float16: 1e-3, beside which its smallest steps (6e-8) are small, and infinity.
_SMALL, _INFINITY = 0x1419, 0x7C00


def n_bytes(row):
    """Count the bytes of a row (int)."""
    parts = row.values() if isinstance(row, dict) else [row]
    return sum(part.nbytes for part in parts)


def shape_of(row):
    """Describe the shape of a row; rows of equal ones fit into one batch (tuple)."""
    if isinstance(row, dict):
        return tuple((name, part.shape) for name, part in row.items())
    return row.shape


def shape_after(tap, shape):
    """Return the shape of what a tap makes of one sample (tuple or dict).

    None stands for a shape that varies.
    """
    if shape is None:
        return None
    example = tap(map_state(lambda lengths: torch.zeros(1, *lengths), shape))
    return map_state(lambda z: tuple(z.shape[1:]), example)


def as_stored(state, activation_dtype):
    """Round a batch of activations to the values that its rows are kept in.

    What is computed from the result is the same, bit for bit, as what is computed from
    rows that were stored and read again. Pixels, masks and ids, which are no floating
    point numbers, stay as they are.

    Parameters
    ----------
    state : torch.Tensor of shape (n, ...) or dict of str to torch.Tensor
    activation_dtype : {"auto", "float16", "float32"}
        See :func:`sktransfer.set_config`.

    Returns
    -------
    torch.Tensor of the same shape, float32, or dict of them
    """
    return map_state(lambda z: _rounded(z, activation_dtype), state)


def _rounded(z, activation_dtype):
    if not z.is_floating_point():
        return z
    if not _is_halved(z, activation_dtype):
        return z.float()
    half = z.half()
    rounded = half.float()
    unfit = _unfit(half)
    if unfit:
        rounded[unfit] = z[unfit].float()
    return rounded


def _is_halved(z, activation_dtype):
    """Whether activations are kept in float16: by default maps, and not vectors."""
    if activation_dtype == "auto":
        return z.ndim > 2
    return activation_dtype == "float16"


def to_rows(state, activation_dtype, n=None):
    """Cut a batch of activations into rows that can be kept.

    Parameters
    ----------
    state : torch.Tensor of shape (m, ...) or dict of str to torch.Tensor
    activation_dtype : {"auto", "float16", "float32"}
    n : int, default=None
        Number of rows; by default one per sample.

    Returns
    -------
    list of ndarray or list of dict of str to ndarray
        Each owns its memory. An array that float16 does not hold well stays in float32:
        one with values beyond its range, or with small ones alone.
    """
    if not isinstance(state, dict):
        return _rows(state[:n], activation_dtype)
    columns = [_rows(z[:n], activation_dtype) for z in state.values()]
    return [dict(zip(state, row, strict=True)) for row in zip(*columns, strict=True)]


def _rows(z, activation_dtype):
    if not z.is_floating_point():
        return _cut(z)
    if not _is_halved(z, activation_dtype):
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
    # In the order of memory, so that nothing is copied.
    axes = sorted(range(1, half.ndim), key=half.stride, reverse=True)
    flat = half.permute(0, *axes).reshape(len(half), -1)
    largest = flat.view(torch.int16).bitwise_and(0x7FFF).amax(1)
    return ((largest < _SMALL) | (largest >= _INFINITY)).nonzero().flatten().tolist()


def to_tensor(rows):
    """Join rows to a batch; zeros fill up those that are shorter than others.

    Parameters
    ----------
    rows : list of ndarray or list of dict of str to ndarray

    Returns
    -------
    torch.Tensor of shape (n, ...) or dict of str to torch.Tensor
        On the CPU; floating point numbers are in float32.
    """
    if not isinstance(rows[0], dict):
        return _joined(rows)
    return {name: _joined([row[name] for row in rows]) for name in rows[0]}


def _joined(rows):
    shapes = {row.shape for row in rows}
    batch = torch.from_numpy(np.stack(rows) if len(shapes) == 1 else _padded(rows))
    return batch.float() if batch.is_floating_point() else batch


def _padded(rows):
    shape = np.max([row.shape for row in rows], axis=0)
    batch = np.zeros((len(rows), *shape), np.result_type(*rows))
    for padded, row in zip(batch, rows, strict=True):
        padded[tuple(map(slice, row.shape))] = row
    return batch


def read_batches(samples, preprocessing, groups, size, left, **how):
    """Yield batches of prepared samples.

    Parameters
    ----------
    samples, preprocessing, **how
        See :func:`sktransfer.inputs.iter_batches`.
    groups : list of (bytes or None, list of int)
        Digest and indices of equal samples, of which the first is read. Without a store
        there are no digests.
    size : int
        Number of groups in a batch.
    left : list of (bytes, list of int)
        It gets the groups that are left over: samples that were equal to one that has
        changed since.

    Yields
    ------
    groups : list of (bytes or None, list of int)
        Those of the batch; without the digest where the sample has changed since.
    state : torch.Tensor of shape (n, ...) or dict of str to torch.Tensor
        One sample per group.
    """
    changed, keys = set(), [key for key, _ in groups]
    batches = iter_batches(
        samples.take([indices[0] for _, indices in groups]),
        preprocessing,
        size,
        expected=None if None in keys else keys,
        changed=changed,
        **how,
    )
    with closing(batches):
        for places, state in batches:
            read = []
            for k in places:
                key, indices = groups[k]
                if k in changed:
                    left += [(key, [i]) for i in indices[1:]]
                    key, indices = None, indices[:1]
                read.append((key, indices))
            yield read, state


def recall_batches(fetch, groups, size, left):
    """Yield batches of stored rows.

    Parameters
    ----------
    fetch : callable
        From digests to the stored rows of theirs (dict of bytes to row).
    groups, size, left
        As in :func:`read_batches`; left over are samples that are not stored any more.

    Yields
    ------
    groups, state
        As in :func:`read_batches`.
    """
    waiting = defaultdict(list)  # by shape
    for first in range(0, len(groups), size):
        some = groups[first : first + size]
        found = fetch([key for key, _ in some])
        for key, indices in some:
            if key not in found:
                left += [(key, [i]) for i in indices]
                continue
            alike = waiting[shape_of(found[key])]
            alike.append(((key, indices), found[key]))
            if len(alike) == size:
                yield _to_batch(alike)
                alike.clear()
    yield from (_to_batch(alike) for alike in waiting.values() if alike)


def _to_batch(alike):
    groups, rows = zip(*alike, strict=True)
    return [*groups], to_tensor(rows)
