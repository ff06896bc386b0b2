"""How many threads torch and BLAS compute with."""

import threading
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

from sktransfer.compute._fork import in_forked_child

__all__ = ["fixed_threads", "one_blas_thread"]

_N_THREADS = 1
_lock = threading.RLock()


def _renew_lock():
    global _lock
    _lock = threading.RLock()


in_forked_child(_renew_lock)


@contextmanager
def fixed_threads():
    """Limit torch to one CPU thread in this thread, whatever the process has.

    Gradients of convolutions, BatchNorm and LayerNorm are sums over samples that are
    added up thread by thread, and some convolutions are divided among threads: with
    another number of them, results are rounded differently. joblib's workers have fewer
    threads than the process that started them, so without this limit a search with
    ``n_jobs=2`` would find other scores than one with ``n_jobs=1``.
    """
    before = torch.get_num_threads()
    if before == _N_THREADS:
        yield
        return
    torch.set_num_threads(_N_THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_blas_thread():
    """Limit BLAS and LAPACK to one thread.

    Products and factorisations are rounded differently with another number of threads,
    and joblib's workers have fewer threads than the process that started them. The
    limit holds for the whole process, so only one Python thread at a time can be in
    this context.
    """
    with _lock, threadpool_limits(1, user_api="blas"):
        yield
