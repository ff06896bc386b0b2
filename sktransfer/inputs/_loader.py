"""Batches of prepared samples, decoded by a few threads ahead of their use."""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral

import torch

from sktransfer.inputs._unreadable import UnreadableSampleError

AHEAD = 2  # batches under way while the consumer works on one
_SURVEYED = 32  # samples a batch, where nobody uses them


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
    """Yield the samples in order, prepared and in batches.

    While the consumer works on a batch, at most two more are under way. The
    threads are gone when the generator is exhausted or closed, or has raised.

    Parameters
    ----------
    samples : Samples or VectorSamples
        What `as_samples` returns.
    preprocessing : ImagePreprocessing or VectorPreprocessing
        Prepares the samples.
    batch_size : int
        Number of samples per batch; the last batch may be smaller.
    n_threads : int or None, default=None
        Number of threads that read images; None for as many as PyTorch computes
        with, at most 8: where processes share the CPUs, they share these, too. Vectors
        are read without threads.
    pin_memory : bool, default=False
        Whether batches of images lie in page-locked memory, from where a GPU fetches
        them while it computes.
    failed : dict or None, default=None
        Samples that cannot be read are errors without it. With it they are left out,
        and it gets the reasons, by position.
    expected : list of bytes or None, default=None
        What identified each sample before; by default ``samples.digests``.
    changed : set or None, default=None
        It gets the positions of the samples that are no longer what was expected,
        before their batch is yielded.

    Yields
    ------
    batch : uint8 Tensor of shape (b, h, w, 3) or float32 Tensor of shape (b, d)
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
    spans = [(start, min(start + batch_size, len(samples))) for start in starts]
    if preprocessing.kind == "vector":
        return (torch.from_numpy(samples.rows(*span)) for span in spans)
    n_threads = n_threads or min(8, available_cpus(), torch.get_num_threads())
    if expected is None:
        expected = getattr(samples, "digests", None)
    changed = set() if changed is None else changed
    reader = _Reader(samples, preprocessing, failed, expected, changed)
    return _iter_images(reader, spans, n_threads, pin_memory)


def find_unreadable(samples, preprocessing):
    """Read all samples and tell which of them cannot be read.

    Parameters
    ----------
    samples : Samples or VectorSamples
        What `as_samples` returns.
    preprocessing : ImagePreprocessing or VectorPreprocessing
        Prepares the samples.

    Returns
    -------
    reasons : dict of int to str
        By the position of the sample, in order.
    """
    failed = {}
    for _ in iter_batches(samples, preprocessing, _SURVEYED, failed=failed):
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
    """Reads and prepares samples, and notes which have changed or cannot be read."""

    def __init__(self, samples, preprocessing, failed, expected, changed):
        self.samples = samples
        self.preprocessing = preprocessing
        self.failed = failed
        self.expected = expected
        self.changed = changed

    def empty_batch(self, size, pin_memory):
        shape = (size, *self.preprocessing.input_shape[1:], 3)
        return torch.empty(shape, dtype=torch.uint8, pin_memory=pin_memory)

    def read(self, i, pixels):
        try:
            pixels[:] = self.preprocessing.prepare(self.image(i))
        except UnreadableSampleError as error:
            if self.failed is None:
                raise
            self.failed[i] = error.reason

    def image(self, i):
        if self.expected is None or not self.samples.can_change(i):
            return self.samples[i]
        found, image = self.samples.read(i)
        if found != self.expected[i]:
            self.changed.add(i)
        return image

    def tell_changed(self, start, stop):
        first = min(self.changed.intersection(range(start, stop)), default=None)
        if first is not None:
            self.samples.tell_changed(first)

    def without_failed(self, batch, start):
        read = [k for k in range(len(batch)) if start + k not in (self.failed or ())]
        return batch if len(read) == len(batch) else batch[read]


def _iter_images(reader, spans, n_threads, pin_memory):
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="sktransfer-inputs")
    spans, pending = iter(spans), deque()

    def submit():
        for start, stop in spans:
            batch = reader.empty_batch(stop - start, pin_memory)
            pending.append((start, batch, _fill(pool, reader, batch, start, n_threads)))
            return

    try:
        for _ in range(AHEAD):
            submit()
        while pending:
            start, batch, futures = pending.popleft()
            for future in futures:
                future.result()
            submit()
            reader.tell_changed(start, start + len(batch))
            yield reader.without_failed(batch, start)
    finally:
        pool.shutdown(cancel_futures=True)


def _fill(pool, reader, batch, start, n_threads):
    """Have the threads fill one batch; return what to wait for."""
    stop, pixels = start + len(batch), batch.numpy()
    # A few chunks per thread: less to schedule, and still an even load.
    step = max(1, (stop - start) // (4 * n_threads))

    def fill(first):
        for i in range(first, min(first + step, stop)):
            reader.read(i, pixels[i - start])

    return [pool.submit(fill, first) for first in range(start, stop, step)]
