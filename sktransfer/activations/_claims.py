"""Claims: which samples other processes and threads are computing right now.

A claim is a lock on one byte of a file beside the store; its place is a hash of the
sample. The operating system releases the locks of a process that ends, however it
does, so no claim is left behind. Locks on bytes belong to processes, so a table says
which thread of this one has a claim. Where there is no such lock (on Windows, in a
folder that cannot be written), claims hold among the threads of a process.
"""

import errno
import logging
import os
import threading
import time
from collections.abc import Iterable

from sktransfer.activations._disk_store import make_folder
from sktransfer.compute import fork_lock, in_forked_child

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

_logger = logging.getLogger("sktransfer")
_PAUSE = 0.02  # seconds between looks at what others have computed
_PATIENCE = 60.0  # seconds without any news of them, as where they are suspended
_PLACES = 2**62
_threads: dict[tuple, int] = {}  # of this process, by the file and place of their claim
_files: dict[str, list[int]] = {}  # descriptor and number of users, by path
_lock = fork_lock(globals(), "_lock")


def _forget_all():
    """Close the copies that a forked child has of the files, but not of the locks."""
    for descriptor, _ in _files.values():
        os.close(descriptor)
    _files.clear()
    _threads.clear()


in_forked_child(_forget_all)


class Claims:
    """Claims of one pass on samples that it computes; a context manager.

    Parameters
    ----------
    path : str or None
        File that processes share. None is for the threads of this one.
    scope : bytes
        What is computed; claims on the same sample for something else are independent.
    """

    def __init__(self, path: str | None, scope: bytes):
        self._path = path
        self._scope = int.from_bytes(scope[:8])
        self._own: dict[bytes, int] = {}  # places by digest
        self._opened_by: int | None = None  # process
        self._since: float | None = None
        self._waiting = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release([*self._own])
        with _lock:
            if self._opened_by == os.getpid():
                _close(self._path)
            self._opened_by = None

    def take(self, digests: Iterable[bytes]) -> set[bytes]:
        """Claim samples; return those that this pass may compute (set of digests).

        The others are being computed elsewhere. What this thread has claimed, in
        another pass that it has not ended, is not: that pass cannot go on meanwhile.
        """
        digests = [*digests]
        if self._is_impatient():
            return {*digests}
        with _lock:
            if self._opened_by is None and _open(self._path):
                self._opened_by = os.getpid()
            return {digest for digest in digests if self._take(digest)}

    def release(self, digests: Iterable[bytes]) -> None:
        """Release claims, as rows are stored now or will not be."""
        with _lock:
            for digest in digests:
                place = self._own.pop(digest, None)
                if _threads.pop((self._path, place), None) is not None:
                    _unlock(self._path, place)

    def wait(self, n_waiting: int) -> None:
        """Wait for others; `n_waiting` is the number of samples that they compute."""
        if n_waiting != self._waiting:
            self._since, self._waiting = time.monotonic(), n_waiting
        time.sleep(_PAUSE)
        if self._is_impatient():
            _logger.info(
                "Others have not computed %d samples within %g seconds, so these are "
                "computed here, too",
                n_waiting,
                _PATIENCE,
            )

    def _is_impatient(self):
        return self._since is not None and time.monotonic() - self._since > _PATIENCE

    def _take(self, digest):
        if digest in self._own:
            return True
        place = (int.from_bytes(digest[:8]) ^ self._scope) % _PLACES
        thread = _threads.get((self._path, place))
        if thread is not None:
            return thread == threading.get_ident()
        if not _try_lock(self._path, place):
            return False
        _threads[self._path, place] = threading.get_ident()
        self._own[digest] = place
        return True


def _try_lock(path, place):
    """Lock a byte of a file if no other process has; return whether none has."""
    if path not in _files:
        return True
    try:
        fcntl.lockf(_files[path][0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def _unlock(path, place):
    if path in _files:
        fcntl.lockf(_files[path][0], fcntl.LOCK_UN, 1, place)


def _open(path):
    """Open a file for one more user; return whether there is one.

    A process has one descriptor of it: closing any would release all of its locks.
    """
    if path is None or fcntl is None:
        return False
    if path not in _files:
        try:
            make_folder(os.path.dirname(path))
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            _files[path] = [os.open(path, flags, 0o600), 0]
        except OSError:  # the folder cannot be written
            return False
    _files[path][1] += 1
    return True


def _close(path):
    _files[path][1] -= 1
    if not _files[path][1]:
        os.close(_files.pop(path)[0])
