"""How many threads torch computes an operation with."""

from contextlib import contextmanager

import torch

__all__ = ["fixed_threads"]

_N_THREADS = 1


@contextmanager
def fixed_threads():
    """Let torch compute operations on the CPU in one thread, whatever the process has.

    Gradients of convolutions, BatchNorm and LayerNorm are sums over samples that are
    added up thread by thread, and some convolutions are divided among threads: with
    another number of them, results are rounded differently. joblib's workers have fewer
    threads than the process that started them, so without this a search with
    ``n_jobs=2`` would find other scores than one with ``n_jobs=1``. The setting is that
    of the calling thread.
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
