"""Activations in a folder, for other processes and later runs.

SQLite stores them: its transactions survive a kill at any moment, many processes can
use it, and it raises errors if a file is damaged. Every row has a checksum.

The journal is a rollback journal: a write-ahead log grows beside the file without
bound, and is not readable in a read-only folder. Writes are not synchronised with the
disk: a kill leaves the file intact, and checksums find what a power failure damages.
"""

import os
import sqlite3
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Collection
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
from sktransfer.activations._mounts import warn_if_shared
from sktransfer.compute import fork_lock, held_at_forks
from sktransfer.utils import get_config

_FILE = "activations-2.sqlite"  # changes with the layout of the tables
_CLAIMS = "activations-2.claims"
_WAIT = 60.0  # seconds for other processes' writes
_WAIT_AGAIN = 0.1  # seconds, after an error
_TOUCH = 60.0  # seconds between updates of the time when a row was last used
_PRAGMAS = (
    "journal_mode = TRUNCATE",
    "synchronous = OFF",
    "cell_size_check = ON",
    "trusted_schema = OFF",
)
_MOST_OPEN = 8  # stores
_stores: OrderedDict[str, "DiskStore"] = OrderedDict()
_stores_lock = fork_lock(globals(), "_stores_lock")
# One thread at a time: SQLite counts the locks on a file per process, and a process
# that is forked in the meantime would inherit that count without the locks.
_in_use = threading.RLock()
held_at_forks(_in_use)


def open_disk_store(folder: str | os.PathLike) -> "DiskStore":
    """Return this process's store in a folder.

    The folder is created at the first write, and only this user may read it. A warning
    tells if several machines may write to it.
    """
    folder = os.path.abspath(os.fspath(folder))
    with _stores_lock:
        if folder not in _stores:
            _stores[folder] = DiskStore(folder)
            warn_if_shared(folder)
        _stores.move_to_end(folder)
        if len(_stores) > _MOST_OPEN:
            _stores.popitem(last=False)
        return _stores[folder]


class DiskStore:
    """Stores rows by key in one SQLite file; a row is an array or a dict of arrays.

    No state of the file makes a fit fail. An operation that fails is skipped, with one
    warning that gives the reason, and tried again the next time; nothing more is
    written to a damaged file. A row that does not match its checksum counts as missing.

    The file and its journal take at most ``disk_budget`` bytes; while several processes
    write, up to twice the rows that one of them stores at once are added.
    """

    def __init__(self, folder):
        self.folder = folder
        self.path = os.path.join(folder, _FILE)
        self.claims_path = os.path.join(folder, _CLAIMS)
        self._connection = None
        self._opened = None  # process and file of the connection
        self._damaged = None  # version of the file that was found damaged
        self._failing = self._has_warned = False

    def contains(self, keys: Collection[bytes]) -> set[bytes]:
        """Return the keys that are stored."""
        query = "SELECT key FROM entries WHERE key IN ({})"
        return {key for (key,) in self._select(query, keys)} & {*keys}

    def get(self, keys: Collection[bytes]) -> dict:
        """Return the rows that are stored and undamaged, by key."""
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
        # Where nothing can be written, reading goes on without a warning.
        self.delete(damaged)
        if stale:
            self._try(lambda c: touch_rows(c, stale), writes=True, warn=False)
        return found

    def put(self, rows: dict) -> None:
        """Store rows by key, all or none of them."""
        budget = get_config()["disk_budget"]
        if not rows or room_for(rows) > budget:
            return
        # In its own transaction: pages that were free before are not journalled.
        self._try(lambda c: make_room(c, rows, budget), writes=True)
        too_large = self._try(lambda c: _write(c, rows, budget), writes=True)
        while too_large:
            too_large = self._try(lambda c: shrink(c, budget), writes=True)

    def delete(self, keys: Collection[bytes]) -> None:
        """Delete the rows of some keys, if the file can be written."""
        if keys:
            self._try(lambda c: delete_rows(c, keys), writes=True, warn=False)

    @property
    def nbytes(self) -> int:
        """Number of bytes that the rows take in the file."""
        return self._try(used_bytes, default=0)

    def _select(self, query, keys):
        rows, error = self._try(
            lambda c: select_rows(c, query, keys), default=([], None)
        )
        if error is not None:
            self._damaged = _version(self.path)
            self._warn(error, writes=False)
        return [row for row in rows if isinstance(row[0], bytes)]

    def _try(self, action, default=None, writes=False, warn=True):
        """Run an action on the file; return the default if it fails."""
        try:
            with _in_use:
                return self._act(action, default, writes)
        except Exception as error:  # of SQLite, or of what it read in a damaged file
            if warn:
                self._warn(error, writes)
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
        """Open the file, unless this process has opened it and it is still the same."""
        if self._connection is not None:
            if self._opened == (os.getpid(), _identity(self.path)):
                return
            self._close()
        _make_file(self.folder, self.path)
        self._opened = os.getpid(), _identity(self.path)
        # After an error, batches must not wait long for a file that others lock.
        wait = _WAIT_AGAIN if self._failing else _WAIT
        self._connection = _open(self.path, wait)

    def _close(self):
        if self._connection is not None:
            self._connection.close()  # rolls back what has not been committed
        self._connection = None

    def _warn(self, error, writes):
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
    """Write rows; return whether the file is still larger than the budget."""
    make_room(connection, rows, budget)
    insert_rows(connection, rows)
    return exceeds(connection, budget)


def _call(connection, action):
    return action(connection)


def _transact(connection, action):
    """Run an action in a transaction; closing the connection undoes one that raises."""
    lay_out(connection)
    connection.execute("BEGIN IMMEDIATE")
    make_tables(connection)
    result = action(connection)
    connection.execute("COMMIT")
    return result


def _identity(path):
    """Identify the file at a path, not its contents; None if there is none."""
    version = _version(path)
    return version and version[:2]


def _version(path):
    """Identify a file and its contents, by its size and modification time."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _is_damage(error):
    """Return whether an error shows damage, rather than a transient problem."""
    transient = sqlite3.OperationalError | OSError | MemoryError
    return isinstance(error, Exception) and not isinstance(error, transient)


def _advice(error):
    text = str(error)
    if _is_damage(error):
        return "The file is damaged: delete it, and it will be created again."
    if "locked" in text:
        return "Another process holds the file. It is tried again with every batch."
    if "full" in text or "disk I/O" in text:
        return (
            "It is tried again with every batch. Free some space, or give another "
            "folder as `memory`."
        )
    return "Check the permissions of the folder, or give another one as `memory`."


def _make_file(folder, path):
    """Create an empty file that only its owner may read, unless it exists."""
    if os.path.exists(path):
        return
    make_folder(folder)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        os.chmod(path, 0o600)


def make_folder(folder: str) -> None:
    """Create a folder that only its owner may read, unless it exists."""
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    with suppress(FileExistsError):  # the user's, or just made by another process
        os.mkdir(folder)
        os.chmod(folder, 0o700)  # whatever the umask


def _open(path, wait):
    connection = sqlite3.connect(
        f"{Path(path).absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=wait,
        isolation_level=None,
        check_same_thread=False,  # `_in_use` lets one use it at a time
    )
    try:
        connection.text_factory = bytes  # damaged text need not be UTF-8
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection
