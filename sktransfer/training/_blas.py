"""How many threads BLAS gets; it has one setting for the whole process."""

import threading
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

from sktransfer.compute import in_forked_child

__all__ = ["one_blas_thread"]

_lock = threading.RLock()


def _renew():
    global _lock
    _lock = threading.RLock()


in_forked_child(_renew)


@contextmanager
def one_blas_thread():
    """Let BLAS and LAPACK compute in one thread.

    Products and factorisations are rounded differently with another number of threads,
    and joblib's workers have fewer of them than the process that started them. Beyond
    that, the threads of small problems, and those of a busy machine, wait for each
    other most of the time. One thread of Python at a time is in it: two would put back
    each other's setting.
    """
    with _lock, threadpool_limits(1, user_api="blas"):
        yield
