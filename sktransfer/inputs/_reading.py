"""Conversion of X to samples, and of samples to batches, for any modality."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Set, ValuesView
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from mmap import mmap
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import nn

from sktransfer.inputs._custom import OneByOne, as_run
from sktransfer.inputs._modality import MODALITIES, Modality, UnreadableSampleError
from sktransfer.inputs._preprocessing import Preprocessing
from sktransfer.inputs._stacking import stacked
from sktransfer.utils import warn_caller

_NAMED = 5  # unreadable samples that a warning names
_OTHERWISE = "vector"  # modality of X if no other one claims it
_DEFAULTS = (None, "auto")
_FLOATS_OF_NUMPY = (torch.float16, torch.float32, torch.float64)
_AHEAD = 2  # batches that are read while the consumer works on one
_MOST_WAITING = 2**26  # bytes of samples that wait for others of their shape
_SURVEYED = 32  # samples per batch of `find_unreadable`


def without_pyarrow(X: Any) -> Any:
    """Return an array or a column of pyarrow as a list, and anything else as it is."""
    return X.to_pylist() if hasattr(X, "to_pylist") else X


def has_no_order(X: Any) -> bool:
    """Return whether X holds samples in no order, so that y would not belong to it."""
    return isinstance(X, Mapping | Set | ValuesView)


def to_numpy(values: Any) -> np.ndarray:
    """Return a tensor, or any array-like, as an array, without a copy where possible.

    A tensor may be on any device and require a gradient. It becomes float32 if numpy
    lacks its dtype. A sparse or nested tensor raises a TypeError.
    """
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    _check_tensor(values)
    values = values.detach().cpu()
    if values.is_floating_point() and values.dtype not in _FLOATS_OF_NUMPY:
        values = values.float()
    return values.resolve_conj().resolve_neg().numpy()


def _check_tensor(values):
    if values.is_nested:
        raise TypeError(
            "Samples must be dense. Got a nested tensor; pass `list(X.unbind())`."
        )
    if values.layout != torch.strided:
        raise TypeError(
            f"Samples must be dense. Got a tensor of layout {values.layout}; "
            "pass `X.to_dense()`."
        )
    if values.is_meta:
        raise TypeError(
            "Samples must have values. Got a tensor on the device 'meta', which holds "
            "none; make it on another device."
        )


def is_mapped(values: Any) -> bool:
    """Return whether an array is mapped from a file, which others may write to."""
    while isinstance(values, np.ndarray):
        values = values.base
    return isinstance(values, mmap)


def modality_of(
    X: Any = None, backbone: Any = None, options: Mapping | None = None
) -> Modality:
    """Return the modality of the samples in X; by default that of vectors.

    A preprocessing, or an object that has one, decides by its ``kind``; a network by
    its layers, if they take one modality only. Next come the parameters of the
    estimator (`options`) that not all modalities take, if they are neither None nor
    "auto", and at last X itself. A kind that is not registered raises a ValueError.
    """
    kind = getattr(getattr(backbone, "preprocessing", backbone), "kind", None)
    if isinstance(kind, str) and not isinstance(backbone, nn.Module):
        return MODALITIES[kind]
    others = [MODALITIES[name] for name in reversed(MODALITIES) if name != _OTHERWISE]
    if isinstance(backbone, nn.Module):
        for modality in others:
            if modality.takes_network(backbone):
                return modality
    names = {*_given(options)}
    takers = [modality for modality in others if names.intersection(modality.options)]
    if takers:  # of several, the one that X looks like, or that was registered first
        return next((m for m in takers if m.looks_like(X)), takers[-1])
    looking = (m for m in others if X is not None and m.looks_like(X))
    return next(looking, MODALITIES[_OTHERWISE])


def _given(options: Mapping | None) -> list[str]:
    """Return the names of the options that are not at their defaults."""
    return [name for name, value in (options or {}).items() if value not in _DEFAULTS]


def as_samples(
    X: Any,
    preprocessing: Preprocessing,
    *,
    image_shape: tuple[int, ...] | None = None,
    value_range: Any = "auto",
    on_error: str = "raise",
) -> Any:
    """Return X as samples that are read one at a time, when they are indexed.

    The ``kind`` of the preprocessing decides what X may be. Images are paths (str or
    os.PathLike), PIL images, encoded images (bytes) or arrays, in a list, an array, a
    Series or a data frame of one column; an array or tensor of shape (n, h, w), (n, h,
    w, c), (n, c, h, w) or, with `image_shape`, (n, d); or a map-style dataset with
    items ``image`` or ``(image, label)``. Vectors are real numbers of shape (n, d).

    `image_shape` is the shape of one array, (h, w), (h, w, c) or (c, h, w), in px; if
    the first and the last axis can both be the channels, the last one is. `value_range`
    holds the values that stand for black and for full intensity in arrays, and in files
    and gray PIL images with more than 8 bits per channel; "auto" and None decide over
    all of X, and the result is the ``value_range`` of the samples. With
    ``on_error="warn"`` no unreadable image raises before it is read. What cannot be a
    sample at all, such as an int among paths, raises a TypeError in any case, and
    values, shapes and options that the modality does not take raise a ValueError.
    """
    modality = modality_of(backbone=preprocessing)
    options = {"image_shape": image_shape, "value_range": value_range}
    for name in _given(options):
        if name not in modality.options:
            default = "'auto'" if name == "value_range" else None
            raise ValueError(
                f"`{name}` must be {default} for a backbone that takes "
                f"{modality.noun}. Got {options[name]!r}; leave it out."
            )
    taken = {name: options[name] for name in options if name in modality.options}
    return modality.read(X, preprocessing, on_error=on_error, **taken)


def warn_of_unreadable(reasons: Mapping[int, str], samples: Any) -> None:
    """Warn once about samples that could not be read."""
    first = sorted(reasons)[:_NAMED]
    listed = "; ".join(
        f"{samples.describe(i)}: {reasons[i].rstrip('.')}" for i in first
    )
    more = len(reasons) - len(first)
    warn_caller(
        f"{len(reasons)} of {len(samples)} samples cannot be read: their features are "
        f"NaN. {listed}{f'; and {more} more' if more else ''}."
    )


def iter_batches(
    samples: Any,
    preprocessing: Preprocessing,
    batch_size: int,
    *,
    n_threads: int | None = None,
    pin_memory: bool = False,
    failed: dict[int, str] | None = None,
    expected: list[bytes] | None = None,
    changed: set[int] | None = None,
    admit: Callable[[range], list[int]] | None = None,
) -> Generator:
    """Yield pairs (positions, batch) of prepared samples of equal shape.

    A batch is a tensor of shape (b, ...) on the CPU, or a dict of such, for
    ``preprocessing.to_input``. While the consumer works on one, threads read at most
    two more; they end when the generator is exhausted or closed, or raises. A single
    sample is read without them. Samples of one shape come in order. Others wait for
    samples of their shape, as long as those that wait take less than 64 MiB.

    `n_threads` is by default the number of threads that PyTorch computes with, at most
    8: processes that share the CPUs share these, too. Samples with ``rows`` are read
    without threads. `pin_memory` puts batches into page-locked memory, from which a GPU
    fetches them while it computes.

    A sample that cannot be read raises an UnreadableSampleError; with `failed` it is
    left out, and `failed` receives the reason by its position. `expected` holds the
    digests of an earlier reading, by default ``samples.digests``. `changed` receives
    the positions of samples that have another digest now, before their batch is
    yielded, and one warning is given. `admit` is called with some positions, just
    before their samples are to be read, and returns those to read; by default, all.
    """
    _check_count("batch_size", batch_size)
    if n_threads is not None:
        _check_count("n_threads", n_threads)
    spans = _iter_admitted(len(samples), batch_size, admit or list)
    preprocessing = as_run(preprocessing)
    if hasattr(samples, "rows") and not isinstance(preprocessing, OneByOne):
        return _iter_rows(samples, preprocessing, spans)
    n_threads = n_threads or min(8, available_cpus(), torch.get_num_threads())
    if expected is None:
        expected = getattr(samples, "digests", None)
    changed = set() if changed is None else changed
    reader = _Reader(samples, preprocessing, failed, expected, changed)
    if len(samples) == 1:  # there is nothing to do meanwhile
        read = _iter_alone(reader, spans)
    else:
        read = _iter_spans(reader, spans, n_threads)
    groups = _iter_groups(read, batch_size)
    return _iter_stacked(groups, pin_memory)


def find_unreadable(samples: Any, preprocessing: Preprocessing) -> dict[int, str]:
    """Read all samples; return why some cannot be read, by position, in order."""
    failed: dict[int, str] = {}
    batches = iter_batches(samples, preprocessing, _SURVEYED, failed=failed)
    for _ in batches:
        pass
    return dict(sorted(failed.items()))


def available_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_count(name, value):
    if isinstance(value, Integral) and not isinstance(value, bool) and value >= 1:
        return
    raise ValueError(f"`{name}` must be a positive int. Got {value!r}.")


class _Reader:
    """Reads and prepares samples; records which have changed or cannot be read."""

    def __init__(self, samples, preprocessing, failed, expected, changed):
        self.samples = samples
        self.preprocessing = preprocessing
        self.failed = failed
        self.expected = expected
        self.changed = changed

    def prepared(self, positions: Iterable[int]) -> list:
        """Return pairs (position, prepared sample) of the samples that can be read."""
        pairs = []
        for i in positions:
            try:
                pairs.append((i, self.preprocessing.prepare(self._sample(i))))
            except UnreadableSampleError as error:
                if self.failed is None:
                    raise
                self.failed[i] = error.reason
        return pairs

    def _sample(self, i):
        if self.expected is None or not self.samples.can_change(i):
            return self.samples[i]
        found, sample = self.samples.read(i)
        if found != self.expected[i]:
            self.changed.add(i)
        return sample

    def warn_of_change(self, span: range) -> None:
        """Warn of the first sample of a span that has changed."""
        first = min(self.changed.intersection(span), default=None)
        if first is not None:
            self.samples.warn_of_change(first)


def _iter_admitted(n_samples, size, admit):
    """Yield lists of `size` positions that are admitted; the last may be shorter."""
    admitted = []
    for start in range(0, n_samples, size):
        admitted += admit(range(start, min(start + size, n_samples)))
        if len(admitted) >= size:
            yield admitted[:size]
            del admitted[:size]
    if admitted:
        yield admitted


def _iter_rows(samples, preprocessing, spans):
    for span in spans:
        rows = preprocessing.prepare(samples.rows(span))
        yield span, torch.from_numpy(rows)


def _iter_alone(reader, spans):
    for span in spans:
        pairs = reader.prepared(span)
        reader.warn_of_change(span)
        yield pairs


def _iter_spans(reader, spans, n_threads):
    """Yield the pairs (position, prepared sample) of each span."""
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="sktransfer-inputs")
    spans, pending = iter(spans), deque()

    def submit():
        for span in spans:
            # A few chunks per thread: less to schedule, and still an even load.
            step = max(1, len(span) // (4 * n_threads))
            chunks = [span[first : first + step] for first in range(0, len(span), step)]
            futures = [pool.submit(reader.prepared, chunk) for chunk in chunks]
            pending.append((span, futures))
            return

    try:
        for _ in range(_AHEAD):
            submit()
        while pending:
            span, futures = pending.popleft()
            pairs = [pair for future in futures for pair in future.result()]
            submit()
            reader.warn_of_change(span)
            yield pairs
    finally:
        pool.shutdown(cancel_futures=True)


def _iter_groups(read, batch_size):
    """Yield pairs in groups of equal shape; a span of one shape is a group."""
    waiting = {}  # by shape
    with closing(read):
        for pairs in read:
            shapes = [_shape_of(prepared) for _, prepared in pairs]
            if not waiting and len({*shapes}) < 2:
                if pairs:
                    yield pairs
                continue
            for shape, pair in zip(shapes, pairs, strict=True):
                waiting.setdefault(shape, []).append(pair)
            yield from _full(waiting, batch_size)
        yield from waiting.values()


def _full(waiting, batch_size):
    """Remove and yield full groups, and the oldest while too many samples wait."""
    for shape in [*waiting]:
        while len(waiting[shape]) >= batch_size:
            yield waiting[shape][:batch_size]
            del waiting[shape][:batch_size]
        if not waiting[shape]:
            del waiting[shape]
    while sum(map(_n_bytes, waiting.values())) > _MOST_WAITING:
        yield waiting.pop(min(waiting, key=lambda shape: waiting[shape][0][0]))


def _n_bytes(pairs):
    """Return the bytes of samples of one shape."""
    return len(pairs) * _bytes_of(pairs[0][1])


def _bytes_of(prepared):
    parts = prepared.values() if isinstance(prepared, Mapping) else [prepared]
    return sum(np.asarray(part).nbytes for part in parts)


def _shape_of(prepared):
    if isinstance(prepared, Mapping):
        return tuple((name, np.shape(prepared[name])) for name in sorted(prepared))
    return np.shape(prepared)


def _iter_stacked(groups, pin_memory):
    with closing(groups):
        for pairs in groups:
            positions = [i for i, _ in pairs]
            yield positions, stacked([prepared for _, prepared in pairs], pin_memory)
