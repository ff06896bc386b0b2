"""How many threads BLAS gets; it has one setting for the whole process."""

import threading
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

from sktransfer.compute import in_forked_child

__all__ = ["limit_blas", "limit_blas_of_factorisation"]

# Below so many multiply-adds a step, BLAS threads wait for each other most of the time.
_SMALL = 2e8
# Factorisations take many such steps, each a small part of the whole.
_SMALL_FACTORISATION = 2e10
_lock = threading.RLock()


def _renew():
    global _lock
    _lock = threading.RLock()


in_forked_child(_renew)


def limit_blas(multiply_adds):
    """Return the context in which steps of so many multiply-adds run fastest.

    One thread at a time is in it: two would put back each other's setting.
    """
    return _limit(None if multiply_adds > _SMALL else 1)


def limit_blas_of_factorisation(X):
    """Return the context in which a matrix is factorised fastest; see `limit_blas`."""
    is_small = X.size * min(X.shape) < _SMALL_FACTORISATION
    return _limit(1 if is_small else None)


@contextmanager
def _limit(n_threads):
    with _lock, threadpool_limits(n_threads, user_api="blas"):
        yield
