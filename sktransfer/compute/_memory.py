"""Memory that is freed and taken again at every step."""

import contextlib
import ctypes
import functools
import threading

from sktransfer.compute._threads import in_forked_child

__all__ = ["keep_freed_memory"]

# Of mallopt(3); glibc's own, dynamic, thresholds end up at the second values.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES, _USUAL_BYTES, _MAPPED_BYTES = 2**30, 2**26, 2**25
_depth = 0
_lock = threading.Lock()


def _renew():
    global _depth, _lock
    _depth, _lock = 0, threading.Lock()


in_forked_child(_renew)


@contextlib.contextmanager
def keep_freed_memory():
    """Let the process keep up to 1 GiB that it has freed, while this goes on.

    A training step frees what its forward pass held. glibc gives that back to the
    system, which hands it out again, zeroed, in the next step: a quarter of the time of
    a step on a CPU. Afterwards freed memory goes back as it does in any process that
    has used large tensors. Without glibc nothing is changed.
    """
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(change):
    """Count those who want it, in all threads; the first and the last change it."""
    global _depth
    with _lock:
        before, _depth = _depth, max(0, _depth + change)
        if (before > 0) != (_depth > 0):
            _set_threshold(_KEPT_BYTES if _depth else _USUAL_BYTES)


def _set_threshold(n_bytes):
    if libc := _glibc():
        libc.mallopt(_MMAP_THRESHOLD, _MAPPED_BYTES)
        libc.mallopt(_TRIM_THRESHOLD, n_bytes)


@functools.cache
def _glibc():
    try:
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "gnu_get_libc_version") else None
    except (OSError, TypeError):  # Windows has no library of this kind
        return None
