"""Batches of prepared samples, read by a few threads ahead of their use."""

import os
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from numbers import Integral

import numpy as np
import torch

from sktransfer.inputs._modality import UnreadableSampleError

__all__ = ["find_unreadable", "iter_batches"]

_AHEAD = 2  # batches that are read while the consumer works on one
_WAITING = 4  # batches' worth of samples that may wait for others of their shape
_SURVEYED = 32  # samples per batch of `find_unreadable`


def iter_batches(
    samples,
    preprocessing,
    batch_size,
    *,
    n_threads=None,
    pin_memory=False,
    failed=None,
    expected=None,
    changed=None,
):
    """Yield the samples prepared, in batches of equal shape, with their positions.

    While the consumer works on a batch, at most two more are being read. The threads
    end when the generator is exhausted or closed, or has raised. Samples that are all
    of one shape come in order. Otherwise samples wait for others of their shape, at
    most four batches' worth of them.

    Parameters
    ----------
    samples : Samples or VectorSamples
        What `as_samples` returns.
    preprocessing : Preprocessing
        Prepares the samples.
    batch_size : int
        Number of samples that are read together, and the most in a batch.
    n_threads : int or None, default=None
        Number of threads that read samples; None for as many as PyTorch computes
        with, at most 8: processes that share the CPUs share these, too. Samples with
        ``rows`` are read without threads.
    pin_memory : bool, default=False
        Whether batches lie in page-locked memory, from which a GPU fetches them while
        it computes; not those of samples with ``rows``.
    failed : dict or None, default=None
        Without it, samples that cannot be read are errors. With it they are left out,
        and it receives the reasons, by position.
    expected : list of bytes or None, default=None
        The digest of each sample when it was read before; by default
        ``samples.digests``.
    changed : set or None, default=None
        Receives the positions of the samples whose digests are not as expected, before
        their batch is yielded.

    Yields
    ------
    positions : sequence of int
        Of the samples of the batch.
    batch : Tensor of shape (b, ...) or dict of str to Tensor
        On the CPU, for ``preprocessing.to_input``.

    Raises
    ------
    ValueError
        If a parameter is no positive int.
    UnreadableSampleError
        If a sample cannot be read: the first such, with its position in X and its path.

    Warns
    -----
    UserWarning
        Once, if a sample is not what was expected.
    """
    _check_count("batch_size", batch_size)
    if n_threads is not None:
        _check_count("n_threads", n_threads)
    starts = range(0, len(samples), batch_size)
    spans = [range(start, min(start + batch_size, len(samples))) for start in starts]
    if hasattr(samples, "rows"):
        return _iter_rows(samples, preprocessing, spans)
    n_threads = n_threads or min(8, available_cpus(), torch.get_num_threads())
    if expected is None:
        expected = getattr(samples, "digests", None)
    changed = set() if changed is None else changed
    reader = _Reader(samples, preprocessing, failed, expected, changed)
    groups = _iter_groups(_iter_spans(reader, spans, n_threads), batch_size)
    return _iter_stacked(groups, pin_memory)


def find_unreadable(samples, preprocessing):
    """Read all samples and return which of them cannot be read.

    Parameters
    ----------
    samples : Samples or VectorSamples
        What `as_samples` returns.
    preprocessing : Preprocessing
        Prepares the samples.

    Returns
    -------
    dict of int to str
        The reasons, by the position of the sample, in order.
    """
    failed = {}
    batches = iter_batches(samples, preprocessing, _SURVEYED, failed=failed)
    for _ in batches:
        pass
    return dict(sorted(failed.items()))


def available_cpus():
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_count(name, value):
    if isinstance(value, Integral) and not isinstance(value, bool) and value >= 1:
        return
    raise ValueError(f"`{name}` must be a positive int. Got {value!r}.")


class _Reader:
    """Reads and prepares samples; notes which have changed or cannot be read."""

    def __init__(self, samples, preprocessing, failed, expected, changed):
        self.samples = samples
        self.preprocessing = preprocessing
        self.failed = failed
        self.expected = expected
        self.changed = changed

    def prepared(self, positions):
        """Return (position, prepared sample) of the samples that can be read (list)."""
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

    def warn_of_change(self, span):
        first = min(self.changed.intersection(span), default=None)
        if first is not None:
            self.samples.warn_of_change(first)


def _iter_rows(samples, preprocessing, spans):
    for span in spans:
        rows = preprocessing.prepare(samples.rows(span.start, span.stop))
        yield span, torch.from_numpy(rows)


def _iter_spans(reader, spans, n_threads):
    """Yield what was read of each span, as pairs (position, prepared sample)."""
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
    """Take groups out that are full, and the oldest while too many samples wait."""
    for shape in [*waiting]:
        while len(waiting[shape]) >= batch_size:
            yield waiting[shape][:batch_size]
            del waiting[shape][:batch_size]
        if not waiting[shape]:
            del waiting[shape]
    while sum(map(len, waiting.values())) > _WAITING * batch_size:
        yield waiting.pop(min(waiting, key=lambda shape: waiting[shape][0][0]))


def _shape_of(prepared):
    if isinstance(prepared, Mapping):
        return tuple((name, np.shape(prepared[name])) for name in sorted(prepared))
    return np.shape(prepared)


def _iter_stacked(groups, pin_memory):
    with closing(groups):
        for pairs in groups:
            positions = [i for i, _ in pairs]
            yield positions, _stacked([prepared for _, prepared in pairs], pin_memory)


def _stacked(prepared, pin_memory):
    first = prepared[0]
    if isinstance(first, Mapping):
        return {
            name: _stacked([group[name] for group in prepared], pin_memory)
            for name in first
        }
    dtype = torch.from_numpy(np.empty(0, first.dtype)).dtype
    shape = (len(prepared), *first.shape)
    batch = torch.empty(shape, dtype=dtype, pin_memory=pin_memory)
    np.stack(prepared, out=batch.numpy())
    return batch
