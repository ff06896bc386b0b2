"""Parts of a batch, each computed by one thread and several at a time."""

from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import torch

from sktransfer.compute._threads import fixed_threads

__all__ = ["Shards"]


class Shards:
    """Computes parts of batches in threads of their own.

    An operation that several threads share rounds by their number. So each part is
    computed by one, and the number of threads decides how long a batch takes and never
    what comes out. As a context manager it ends its threads.

    Parameters
    ----------
    workers : list of callable
        Equal functions that share no state, for one thread each. The parts of a batch
        are computed by any of them.
    """

    def __init__(self, workers):
        self._workers = workers
        self._pool = None

    def __enter__(self):
        if len(self._workers) > 1:
            self._pool = ThreadPoolExecutor(
                len(self._workers), thread_name_prefix="sktransfer-compute"
            )
        return self

    def __exit__(self, *exception):
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, parts):
        """Apply a worker to each part.

        Parameters
        ----------
        parts : list

        Returns
        -------
        list
            What the workers return, in order.

        Raises
        ------
        Exception
            The first that a worker raises, once all parts are done with.
        """
        if self._pool is None or len(parts) == 1:
            with fixed_threads():
                return [self._workers[0](part) for part in parts]
        free = SimpleQueue()
        for worker in self._workers:
            free.put(worker)
        futures = [self._pool.submit(_apply, free, part) for part in parts]
        results = [future.exception() or future.result() for future in futures]
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results


def _apply(free, part):
    """Apply a worker that no other thread is using."""
    worker = free.get()
    try:
        with fixed_threads(), torch.autograd.set_multithreading_enabled(False):
            return worker(part)
    finally:
        free.put(worker)
