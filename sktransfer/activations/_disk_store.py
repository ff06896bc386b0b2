"""Activations in a folder, for other processes and later runs.

SQLite keeps them: transactions that survive a kill at any moment, many processes, and
errors instead of crashes where a file is damaged. Every row carries a checksum.

Its journal is the one that rolls back: a write-ahead log grows beside the file without
bound, and cannot be read in a folder that cannot be written. Nothing waits for the
disk: a kill leaves the file whole, and what a power failure damages, checksums find.
"""

import os
import sqlite3
import threading
import time
import warnings
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from sktransfer.activations._disk_rows import (
    decode,
    delete_rows,
    exceeds,
    insert_rows,
    lay_out,
    make_room,
    make_tables,
    room_for,
    select_rows,
    shrink,
    touch_rows,
    used_bytes,
)
from sktransfer.compute import held_at_forks, in_forked_child
from sktransfer.utils import get_config

__all__ = ["DiskStore", "open_disk_store"]

_FILE = "activations-2.sqlite"  # another layout gets another number
_WAIT = 60.0  # seconds for other processes' writes
_WAIT_AGAIN = 0.1  # seconds, after an error
_TOUCH = 60.0  # seconds; more often need not be known what is in use
_PRAGMAS = (
    "journal_mode = TRUNCATE",
    "synchronous = OFF",
    "cell_size_check = ON",
    "trusted_schema = OFF",
)
_MOST = 8  # stores that are kept open
_stores: OrderedDict[str, "DiskStore"] = OrderedDict()
_stores_lock = threading.Lock()
# One at a time: SQLite counts the locks on a file by process, and a process that is
# forked meanwhile would inherit that count without the locks.
_in_use = threading.RLock()
held_at_forks(_in_use)


def _renew():
    """Forget, in a forked process, what belongs to the one it was forked from."""
    global _stores_lock
    _stores_lock = threading.Lock()


in_forked_child(_renew)


def open_disk_store(folder):
    """Return this process's store in a folder.

    Parameters
    ----------
    folder : str or os.PathLike
        Made, for this user alone, when something is written and it does not exist.

    Returns
    -------
    DiskStore
    """
    folder = os.path.abspath(os.fspath(folder))
    with _stores_lock:
        if folder not in _stores:
            _stores[folder] = DiskStore(folder)
        _stores.move_to_end(folder)
        if len(_stores) > _MOST:
            _stores.popitem(last=False)
        return _stores[folder]


class DiskStore:
    """A store of arrays by key in one SQLite file.

    Nothing that happens to the file makes a fit fail. What fails is left out, with one
    warning that says why, and tried again the next time; a damaged file is no longer
    written to. A row that does not match its checksum counts as missing.

    Its files, the journal among them, take no more than ``disk_budget``; while several
    processes write, up to twice the rows that one of them puts at once in addition.

    Parameters
    ----------
    folder : str
    """

    def __init__(self, folder):
        self.folder = folder
        self.path = os.path.join(folder, _FILE)
        self._connection = None
        self._opened = None  # by which process, and which file
        self._damaged = None  # which version of the file
        self._failing = self._has_warned = False

    def contains(self, keys):
        """Return the keys that are here (set of bytes)."""
        query = "SELECT key FROM entries WHERE key IN ({})"
        return {key for (key,) in self._select(query, keys)} & {*keys}

    def get(self, keys):
        """Return the arrays that are here and whole (dict of bytes to ndarray)."""
        query = (
            "SELECT key, used, dtype, shape, checksum, bytes FROM entries "
            "JOIN data USING (id) WHERE key IN ({})"
        )
        found, damaged, stale, now = {}, [], [], time.time()
        for key, used, *content in self._select(query, keys):
            row = decode(key, *content)
            if row is None:
                damaged.append(key)
                continue
            found[key] = row
            if not isinstance(used, float) or now - used > _TOUCH:
                stale.append(key)
        # Where nothing can be written, reading goes on without a word.
        self.delete(damaged)
        if stale:
            self._try(lambda c: touch_rows(c, stale), writes=True, warn=False)
        return found

    def put(self, rows):
        """Keep arrays (dict of bytes to ndarray), all or none of them."""
        budget = get_config()["disk_budget"]
        if not rows or room_for(rows) > budget:
            return
        # By itself: a page that has been free before needs no place in the journal.
        self._try(lambda c: make_room(c, rows, budget), writes=True)
        too_large = self._try(lambda c: _write(c, rows, budget), writes=True)
        while too_large:
            too_large = self._try(lambda c: shrink(c, budget), writes=True)

    def delete(self, keys):
        """Delete the rows of some keys, if the file can be written."""
        if keys:
            self._try(lambda c: delete_rows(c, keys), writes=True, warn=False)

    @property
    def nbytes(self):
        """Bytes that the rows take in the file (int)."""
        return self._try(used_bytes, default=0)

    def _select(self, query, keys):
        rows, error = self._try(
            lambda c: select_rows(c, query, keys), default=([], None)
        )
        if error is not None:
            self._damaged = _version(self.path)
            self._tell(error, writes=False)
        return [row for row in rows if isinstance(row[0], bytes)]

    def _try(self, action, default=None, writes=False, warn=True):
        """Do something with the file; without the file, return the default."""
        try:
            with _in_use:
                return self._act(action, default, writes)
        except Exception as error:  # of SQLite, or of what it read in a damaged file
            if warn:
                self._tell(error, writes)
            return default

    def _act(self, action, default, writes):
        version = _version(self.path)
        if version is None and not writes:
            return default
        if version is not None and version == self._damaged and writes:
            return default
        try:
            self._connect()
            run = _transact if writes else _call
            result = run(self._connection, action)
        except BaseException as error:
            self._close()
            self._failing = True
            if _is_damage(error):
                self._damaged = _version(self.path)
            raise
        if self._failing:
            self._connection.execute(f"PRAGMA busy_timeout = {1000 * _WAIT:.0f}")
            self._failing = False
        return result

    def _connect(self):
        """Open the file, unless this process has, and it is still the same file."""
        if self._connection is not None:
            if self._opened == (os.getpid(), _identity(self.path)):
                return
            self._close()
        _make_file(self.folder, self.path)
        self._opened = os.getpid(), _identity(self.path)
        # After an error, a file that others hold must not make every batch wait.
        wait = _WAIT_AGAIN if self._failing else _WAIT
        self._connection = _open(self.path, wait)

    def _close(self):
        if self._connection is not None:
            self._connection.close()  # and what has not been committed is undone
        self._connection = None

    def _tell(self, error, writes):
        if self._has_warned:
            return
        self._has_warned = True
        warnings.warn(
            f"The activation store {self.path!r} cannot be "
            f"{'written' if writes else 'read'} ({error or type(error).__name__}), so "
            f"this process goes on without it. {_advice(error)}",
            stacklevel=2,
        )


def _write(connection, rows, budget):
    """Put rows; return whether the file is larger than the budget all the same."""
    make_room(connection, rows, budget)
    insert_rows(connection, rows)
    return exceeds(connection, budget)


def _call(connection, action):
    return action(connection)


def _transact(connection, action):
    """Do something as a whole or, if it raises and the connection is closed, not."""
    lay_out(connection)
    connection.execute("BEGIN IMMEDIATE")
    make_tables(connection)
    result = action(connection)
    connection.execute("COMMIT")
    return result


def _identity(path):
    """Tell a file that is open from another in its place; None if there is none."""
    version = _version(path)
    return version and version[:2]


def _version(path):
    """Tell a file from what it was before, or from another with its inode."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _is_damage(error):
    """Whether an error is of the file; else it is of the moment, or of permissions."""
    passing = sqlite3.OperationalError | OSError | MemoryError
    return isinstance(error, Exception) and not isinstance(error, passing)


def _advice(error):
    text = str(error)
    if _is_damage(error):
        return "The file is damaged: delete it, and it will be made anew."
    if "locked" in text:
        return "Another process holds the file. It is tried again with every batch."
    if "full" in text or "disk I/O" in text:
        return (
            "It is tried again with every batch. Free some space, or give another "
            "folder as `memory`."
        )
    return "Check the permissions of the folder, or give another one as `memory`."


def _make_file(folder, path):
    """Make an empty file that only its owner may read, if there is none."""
    if os.path.exists(path):
        return
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with suppress(FileExistsError):  # of the user, or of another process since
        os.mkdir(folder)
        os.chmod(folder, 0o700)  # whatever the umask
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        os.chmod(path, 0o600)


def _open(path, wait):
    connection = sqlite3.connect(
        f"{Path(path).absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=wait,
        isolation_level=None,
        check_same_thread=False,  # `_in_use` lets one use it at a time
    )
    try:
        connection.text_factory = bytes  # a damaged text may be no UTF-8
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection
