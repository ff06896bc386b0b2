"""Conversion of batches of activations to rows and back, and sources of batches.

The state of a batch is a tensor of shape (n, ...) or a dict of names to such tensors,
such as hidden states and the mask of their valid positions. The row of a sample is an
array or a dict of arrays, whose shapes depend on that sample alone: a batch of a pass
holds samples of one shape, so that the result of one does not depend on the others.
Zeros at the end of a sequence, behind the last valid position of its mask, are not
stored: the mask says how many there were.
"""

from collections import defaultdict
from contextlib import closing
from typing import Any

import numpy as np
import torch

from sktransfer.activations._targets import MASK
from sktransfer.compute import map_state
from sktransfer.inputs import UnreadableSampleError, iter_batches

# Name, in a row, of the number of positions that were left out.
_N_CUT = "__positions_left_out__"
_AT_ONCE = 2**18  # numbers that are rounded at a time, which fit in a processor's cache
# Bits of float16 numbers: 1e-3, below which its steps (6e-8) are coarse, and infinity.
_SMALL, _INFINITY = 0x1419, 0x7C00


def n_bytes(row):
    """Count the bytes of a row (int)."""
    parts = row.values() if isinstance(row, dict) else [row]
    return sum(part.nbytes for part in parts)


def without_count(row: Any) -> Any:
    """Return a row without the number of positions that were left out."""
    if not isinstance(row, dict):
        return row
    return {name: part for name, part in row.items() if name != _N_CUT}


def shape_of(row: Any) -> tuple:
    """Return the shape of a row with its padding; rows of one shape fit in a batch."""
    if not isinstance(row, dict):
        return row.shape
    n = int(row[_N_CUT][0]) if _N_CUT in row else 0
    parts = ((name, part.shape) for name, part in without_count(row).items())
    return tuple((name, (shape[0] + n, *shape[1:])) for name, shape in parts)


def shape_after(tap, shape):
    """Return the shape of one sample's activation after a tap (tuple or dict).

    If the shape before the tap varies (None), so does the result.
    """
    if shape is None:
        return None
    example = tap(map_state(lambda lengths: torch.zeros(1, *lengths), shape))
    return map_state(lambda z: tuple(z.shape[1:]), example)


def as_stored(state: Any, activation_dtype: str) -> Any:
    """Round a batch of activations to the values that its rows are stored in.

    Whatever is computed from the result is equal, bit for bit, to what is computed from
    rows that were stored and read again. Pixels, masks and ids, which are no floating
    point numbers, are not changed; all others are float32 afterwards. The dtype is that
    of :func:`sktransfer.set_config`.
    """
    return map_state(lambda z: _rounded(z, activation_dtype), state)


def _rounded(z, activation_dtype):
    if not z.is_floating_point():
        return z
    if not _is_halved(z, activation_dtype):
        return z.float()
    rounded = torch.empty_like(z, dtype=torch.float32)
    n = max(1, _AT_ONCE // max(1, z[:1].numel()))
    for part, result in zip(z.split(n), rounded.split(n), strict=True):
        half = part.half()
        result.copy_(half)
        if unfit := _beyond_float16(half):
            result[unfit] = part[unfit].float()
    return rounded


def _is_halved(z, activation_dtype):
    """Whether activations are stored in float16: by default maps, and not vectors."""
    if activation_dtype == "auto":
        return z.ndim > 2
    return activation_dtype == "float16"


def to_rows(state: Any, activation_dtype: str, n: int | None = None) -> list:
    """Cut a batch of activations into rows to store, the first `n` of them.

    Each row is an array, or a dict of arrays, that owns its memory. An array that
    float16 cannot hold well stays in float32: one with values beyond its range, or with
    small values only.
    """
    if not isinstance(state, dict):
        return _rows(state[:n], activation_dtype)
    columns = [_rows(z[:n], activation_dtype) for z in state.values()]
    rows = (dict(zip(state, row, strict=True)) for row in zip(*columns, strict=True))
    return [*map(_without_padding, rows)]


def _without_padding(row):
    """Return a row whose parts end where its mask does, if only zeros follow there."""
    mask = row.get(MASK)
    if (
        mask is None
        or mask.ndim > 1
        or any(len(part) != len(mask) for part in row.values())
    ):
        return row
    end = int(np.flatnonzero(mask).max(initial=-1)) + 1
    if end == len(mask) or any(part[end:].any() for part in row.values()):
        return row
    cut = {name: part[:end].copy() for name, part in row.items()}
    return {**cut, _N_CUT: np.array([len(mask) - end], np.int32)}


def _with_padding(row):
    """Return a row with the zeros that `_without_padding` left out."""
    if _N_CUT not in row:
        return row
    n = int(row[_N_CUT][0])
    return {name: _extended(part, n) for name, part in without_count(row).items()}


def _extended(part, n):
    extended = np.zeros((len(part) + n, *part.shape[1:]), part.dtype)
    extended[: len(part)] = part
    return extended


def _rows(z, activation_dtype):
    if not z.is_floating_point():
        return _cut(z)
    if not _is_halved(z, activation_dtype):
        return _cut(z.float())
    half = z.contiguous().half()
    rows = _cut(half)
    for i in _beyond_float16(half):
        (rows[i],) = _cut(z[[i]].float())
    return rows


def _cut(z):
    return [row.copy() for row in z.contiguous().cpu().numpy()]


def _beyond_float16(half):
    """Return the positions of rows with values that float16 cannot hold, or only zeros.

    Without their signs, the bits of float16 numbers sort like integers, which are
    several times as fast to compare; infinity and NaN come last.
    """
    if not half.numel():
        return []
    # In the order of memory, so that nothing is copied.
    axes = sorted(range(1, half.ndim), key=half.stride, reverse=True)
    flat = half.permute(0, *axes).reshape(len(half), -1)
    largest = flat.view(torch.int16).bitwise_and(0x7FFF).amax(1).tolist()
    return [i for i, bits in enumerate(largest) if not _SMALL <= bits < _INFINITY]


def to_tensor(rows: list) -> Any:
    """Join rows to a batch on the CPU; zeros fill up rows that are shorter than others.

    Rows of floating point numbers become float32.
    """
    if not isinstance(rows[0], dict):
        return _joined(rows)
    rows = [*map(_with_padding, rows)]
    return {name: _joined([row[name] for row in rows]) for name in rows[0]}


def _joined(rows):
    if len({row.shape for row in rows}) > 1:
        longest = np.max([row.shape for row in rows], axis=0)
        rows = [np.pad(row, [(0, n) for n in longest - row.shape]) for row in rows]
    batch = torch.from_numpy(np.stack(rows))
    return batch.float() if batch.is_floating_point() else batch


def read_batches(samples, preprocessing, groups, size, left, admit, **how):
    """Yield pairs of groups and a batch of prepared samples, one sample per group.

    Groups are pairs of the digest and the indices of equal samples, of which the first
    is read; without a store, digests are None. `size` counts groups; `admit` returns
    those of some groups that shall be read, just before that; and `how` holds other
    options of :func:`sktransfer.inputs.iter_batches`. If a sample has changed since
    its digest was computed, its group is yielded with its first index and without a
    digest, and groups of the other indices are appended to `left`.
    """
    changed, keys = set(), [key for key, _ in groups]

    def admitted(positions):
        of_group = {id(groups[k]): k for k in positions}
        return [of_group[id(group)] for group in admit([groups[k] for k in positions])]

    batches = iter_batches(
        samples.take([indices[0] for _, indices in groups]),
        preprocessing,
        size,
        expected=None if None in keys else keys,
        changed=changed,
        admit=admitted,
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


def recall_batches(fetch, groups, size, left, admit):
    """Yield pairs of groups and a batch of their stored rows, as `read_batches` does.

    `fetch` maps digests to the rows that are stored. Samples that are no longer stored
    are appended to `left`.
    """
    waiting = defaultdict(list)  # by shape
    for first in range(0, len(groups), size):
        some = admit(groups[first : first + size])
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


def digest_samples(samples: Any, failed: dict[int, str] | None = None) -> list:
    """Hash every sample by its content (list of 16 bytes each).

    With `failed`, a sample that cannot be read gets None, and its position the reason;
    without, it raises.
    """
    if samples.digests is not None:
        return samples.digests
    digests = []
    for i in range(len(samples)):
        try:
            digests.append(samples.digest(i))
        except UnreadableSampleError as error:
            if failed is None:
                raise
            failed[i] = error.reason
            digests.append(None)
    return digests
