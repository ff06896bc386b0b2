"""Activations in a folder, for other processes and later runs.

SQLite keeps them: transactions that survive a kill at any moment, many processes, and
errors instead of crashes where a file is damaged. Every row carries a checksum.
"""

import os
import sqlite3
import threading
import time
import warnings
import zlib
from collections import OrderedDict

import numpy as np

from sktransfer.compute import in_forked_child
from sktransfer.utils import get_config

__all__ = ["DiskStore", "open_disk_store"]

_FILE = "activations-1.sqlite"  # another layout gets another number
_PAGE = 16_384
_WAIT = 60.0  # seconds for other processes' writes
_CHUNK = 500  # keys in a query
_KEPT_SHARE = 0.9  # of the budget, after an eviction
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    used REAL NOT NULL,
    dtype TEXT NOT NULL,
    shape TEXT NOT NULL,
    checksum INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS by_use ON entries (used);
CREATE TABLE IF NOT EXISTS data (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
"""
_MOST = 8  # stores that are kept open
_stores: OrderedDict[str, "DiskStore"] = OrderedDict()
_stores_lock = threading.Lock()


def _renew():
    """Forget, in a forked process, what belongs to the one it was forked from."""
    global _stores_lock
    _stores_lock = threading.Lock()
    _inherited.extend(_stores.values())
    _stores.clear()


_inherited: list["DiskStore"] = []  # whose connections are not ours to close
in_forked_child(_renew)


def open_disk_store(folder):
    """Return this process's store in a folder.

    Parameters
    ----------
    folder : str or os.PathLike
        Made if it does not exist.

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

    Nothing that happens to the file makes a fit fail: a store that cannot be used is
    done without, with one warning that says why, and a row that does not match its
    checksum counts as missing.

    Parameters
    ----------
    folder : str
    """

    def __init__(self, folder):
        self.folder = folder
        self.path = os.path.join(folder, _FILE)
        self._connections = threading.local()
        self._lock = threading.Lock()
        self._off = False

    def contains(self, keys):
        """Return the keys that are here (set of bytes)."""
        query = "SELECT key FROM entries WHERE key IN ({})"
        rows = self._try(lambda c: _select(c, query, keys), default=[])
        return {bytes(key) for (key,) in rows}

    def get(self, keys):
        """Return the arrays that are here and whole (dict of bytes to ndarray)."""
        query = (
            "SELECT key, used, dtype, shape, checksum, bytes FROM entries "
            "JOIN data USING (id) WHERE key IN ({})"
        )
        rows = self._try(lambda c: _select(c, query, keys), default=[])
        found, damaged, stale, now = {}, [], [], time.time()
        for key, used, dtype, shape, checksum, data in rows:
            row = _decode(key, dtype, shape, checksum, data)
            if row is None:
                damaged.append(bytes(key))
                continue
            found[bytes(key)] = row
            # A write a minute is enough to know what is in use.
            if not isinstance(used, float) or now - used > 60:
                stale.append(bytes(key))
        if damaged:
            self._try(lambda c: _delete(c, damaged), writes=True)
        if stale:
            self._try(lambda c: _touch(c, stale, now), writes=True)
        return found

    def put(self, rows):
        """Keep arrays (dict of bytes to ndarray) in one transaction."""
        if rows:
            self._try(lambda c: self._write(c, rows), writes=True)

    @property
    def nbytes(self):
        """Bytes that the rows take in the file (int)."""
        return self._try(_used_bytes, default=0)

    def _write(self, connection, rows):
        budget = get_config()["disk_budget"]
        incoming = sum(row.nbytes + 2 * _PAGE for row in rows.values())
        if incoming > budget:
            return
        if _used_bytes(connection) + incoming > budget:
            _evict(connection, _KEPT_SHARE * budget - incoming)
        _insert(connection, rows, time.time())

    def _try(self, action, default=None, writes=False):
        """Do something with the store; if that fails, do without it from now on."""
        if self._off:
            return default
        try:
            connection = self._connect()
            if not writes:
                return action(connection)
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                return action(connection)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error, writes)
            return default

    def _connect(self):
        held = getattr(self._connections, "held", None)
        if held is None or not held.is_of(self.path):
            self._connections.held = None  # closed before another one is opened
            held = self._connections.held = _Held(self.folder, self.path)
        return held.connection

    def _give_up(self, error, writes):
        with self._lock:
            if self._off:
                return
            self._off = True
        warnings.warn(
            f"The activation store {self.path!r} cannot be "
            f"{'written' if writes else 'read'} ({error}), so this process goes on "
            f"without it. {_advice(error)}",
            stacklevel=2,
        )


class _Held:
    """A connection of one thread, closed when the thread ends or the store goes."""

    pid = 0

    def __init__(self, folder, path):
        self.connection = _open(folder, path)
        self.identity = _identity(path)
        self.pid = os.getpid()

    def is_of(self, path):
        """Whether it is this process's, and the file is still the one it opened."""
        return self.pid == os.getpid() and self.identity == _identity(path)

    def __del__(self):
        if self.pid == os.getpid():  # a forked process must leave its parent's alone
            self.connection.close()


def _identity(path):
    """Tell a file from another that took its place; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _advice(error):
    text = str(error)
    if "malformed" in text or "not a database" in text or "disk I/O" in text:
        return "The file is damaged: delete it, and it will be made anew."
    if "full" in text:
        return "Free some space, or give another folder as `memory`."
    return "Check the permissions of the folder, or give another one as `memory`."


def _open(folder, path):
    if not os.path.isfile(path):
        os.makedirs(folder, exist_ok=True)
    connection = sqlite3.connect(
        path, timeout=_WAIT, isolation_level=None, check_same_thread=False
    )
    connection.execute(f"PRAGMA page_size = {_PAGE}")
    if os.access(path, os.W_OK) and os.access(folder, os.W_OK):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
    else:
        connection.execute("SELECT count(*) FROM entries LIMIT 1")
    return connection


def _select(connection, query, keys):
    keys, rows = list(keys), []
    for i in range(0, len(keys), _CHUNK):
        chunk = keys[i : i + _CHUNK]
        marks = ",".join("?" * len(chunk))
        rows += connection.execute(query.format(marks), chunk).fetchall()
    return rows


def _insert(connection, rows, now):
    for key, row in rows.items():
        row = np.ascontiguousarray(row)
        data = row.tobytes()
        shape = ",".join(map(str, row.shape))
        cursor = connection.execute(
            "INSERT OR IGNORE INTO entries (key, used, dtype, shape, checksum) "
            "VALUES (?, ?, ?, ?, ?)",
            (
                key,
                now,
                row.dtype.str,
                shape,
                _checksum(key, row.dtype.str, shape, data),
            ),
        )
        if cursor.rowcount:
            connection.execute(
                "INSERT OR REPLACE INTO data VALUES (?, ?)", (cursor.lastrowid, data)
            )


def _checksum(key, dtype, shape, data):
    # With the key: a damaged index may lead from one to the row of another.
    return zlib.crc32(data, zlib.crc32(f"{dtype} {shape}".encode(), zlib.crc32(key)))


def _decode(key, dtype, shape, checksum, data):
    """Return the array, or None if anything about it is wrong."""
    try:
        if _checksum(key, dtype, shape, data) != checksum:
            return None
        lengths = [int(n) for n in shape.split(",")] if shape else []
        return np.frombuffer(data, dtype=np.dtype(dtype)).reshape(lengths)
    except (TypeError, ValueError, AttributeError):
        return None


def _delete(connection, keys):
    for key in keys:
        connection.execute(
            "DELETE FROM data WHERE id IN (SELECT id FROM entries WHERE key = ?)",
            (key,),
        )
        connection.execute("DELETE FROM entries WHERE key = ?", (key,))


def _touch(connection, keys, now):
    connection.executemany(
        "UPDATE entries SET used = ? WHERE key = ?", [(now, key) for key in keys]
    )


def _used_bytes(connection):
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return (pages - free) * _PAGE


def _evict(connection, target):
    """Delete what was used longest ago until the rest takes `target` bytes."""
    while _used_bytes(connection) > max(0, target):
        query = "SELECT key FROM entries ORDER BY used, id LIMIT 100"
        oldest = [key for (key,) in connection.execute(query)]
        if not oldest:
            return
        _delete(connection, oldest)
