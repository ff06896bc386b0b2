"""Cache of results that are computed from files, until a file changes."""

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

# Timestamps of some file systems have a resolution of two seconds: a file that was
# written more recently may be written again without a new timestamp.
_SETTLED = 2 * 10**9  # ns
_MOST = 100_000  # files


class FileCache:
    """Cache of a function of the content of files.

    `compute` is called with a binary file object and further options. It is called
    again if the size, a timestamp, the inode or the device of the file has changed.
    Results are not kept for files that were written less than two seconds before, as
    another write could leave their timestamps the same. Of more than 100,000 files,
    those that were read longest ago are discarded.
    """

    def __init__(self, compute: Callable):
        self._compute = compute
        # (real path, *options): (stamp, what was computed); oldest first
        self._known: OrderedDict = OrderedDict()

    def __call__(self, path: str | os.PathLike, *options: Any) -> Any:
        """Return the function's result for a file; symbolic links are followed."""
        path = os.path.realpath(path)
        known = self._known.get((path, *options))
        if known is not None and known[0] == _stamp(os.stat(path)):
            return known[1]
        with open(path, "rb") as file:
            now = time.time_ns()  # before reading, as the file may be written meanwhile
            stamp = _stamp(os.fstat(file.fileno()))
            found = self._compute(file, *options)
            is_same = _stamp(os.fstat(file.fileno())) == stamp
        # By the clock of another machine, a file may even be from the future.
        if is_same and now - max(stamp[1:3]) >= _SETTLED:
            self._remember((path, *options), (stamp, found))
        return found

    def _remember(self, key, value):
        self._known.pop(key, None)  # the newest come last
        self._known[key] = value
        while len(self._known) > _MOST:
            self._known.popitem(last=False)


def _stamp(status):
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_size, *times, status.st_ino, status.st_dev


_hash = FileCache(lambda file: hashlib.file_digest(file, "sha256").hexdigest()[:32])


def content_stamp(path: str | os.PathLike) -> str:
    """Return the hash of the content of a file, as 32 hexadecimal digits."""
    return _hash(path)
