"""Hashes of texts and bytes, and of files for as long as they stay as they are."""

import hashlib
import os
import time
from collections import OrderedDict

__all__ = ["DIGEST_SIZE", "FileMemory", "content_stamp", "digest"]

DIGEST_SIZE = 16  # bytes
# Some file systems count seconds, or even two of them: a file that is younger may be
# written again without another stamp.
_SETTLED = 2 * 10**9  # ns
_MOST = 100_000  # files


def digest(*parts):
    """Hash texts and bytes; where one ends and the next begins counts.

    Parameters
    ----------
    *parts : str or bytes

    Returns
    -------
    bytes
        As many as `DIGEST_SIZE` says.
    """
    state = hashlib.blake2b(digest_size=DIGEST_SIZE)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(f"{len(data)}:".encode())
        state.update(data)
    return state.digest()


class FileMemory:
    """Cache of a function of the content of files.

    The function is called again if the size, a time, the inode or the device of the
    file has changed, and if the file is so young that it could have been written again
    within the same tick of its file system. Of more than 100,000 files, those that were
    read longest ago are forgotten.

    Parameters
    ----------
    compute : callable
        Called with a file that is open for reading bytes, and the options.
    """

    def __init__(self, compute):
        self._compute = compute
        # (real path, *options): (stamp, what was computed); oldest first
        self._known = OrderedDict()

    def __call__(self, path, *options):
        """Return the function's result for a file.

        Parameters
        ----------
        path : str or os.PathLike
            Symbolic links are followed.
        *options : object
            Further arguments of the function. Hashable.

        Returns
        -------
        object
            Result of `compute`.

        Raises
        ------
        OSError
            If the file cannot be read.
        """
        path = os.path.realpath(path)
        known = self._known.get((path, *options))
        if known is not None and known[0] == _stamp(os.stat(path)):
            return known[1]
        with open(path, "rb") as file:
            now = time.time_ns()  # before it is read: it may be written meanwhile
            stamp = _stamp(os.fstat(file.fileno()))
            found = self._compute(file, *options)
            is_same = _stamp(os.fstat(file.fileno())) == stamp
        # A file from the future, by another machine's clock, is young, too.
        if is_same and now - max(stamp[1:3]) >= _SETTLED:
            self._remember((path, *options), (stamp, found))
        return found

    def _remember(self, key, value):
        self._known.pop(key, None)  # to its place among the newest
        self._known[key] = value
        while len(self._known) > _MOST:
            self._known.popitem(last=False)


def _stamp(status):
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_size, *times, status.st_ino, status.st_dev


_hash = FileMemory(lambda file: hashlib.file_digest(file, "sha256").hexdigest()[:32])


def content_stamp(path):
    """Return the hash of the content of a file.

    Parameters
    ----------
    path : str or os.PathLike
        Symbolic links are followed.

    Returns
    -------
    str
        Hexadecimal, 32 digits.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    return _hash(path)
