"""Rows of a store as SQL on one connection: read, written, deleted, within a budget."""

import sqlite3
import time
import zlib
from contextlib import suppress

import numpy as np

__all__ = [
    "decode",
    "delete_rows",
    "exceeds",
    "insert_rows",
    "lay_out",
    "make_room",
    "make_tables",
    "room_for",
    "select_rows",
    "shrink",
    "touch_rows",
    "used_bytes",
]

_PAGE = 16_384
_EMPTY = 8 * _PAGE  # a file without rows
_CHUNK = 500  # keys in a query
_EVICTED = 100  # rows that are looked up at a time, to delete them
_RELEASED = 512  # pages that one transaction gives back to the file system
_KEPT_SHARE = 0.9  # of the budget, after an eviction
_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS entries (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        used REAL NOT NULL,
        dtype TEXT NOT NULL,
        shape TEXT NOT NULL,
        checksum INTEGER NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS by_use ON entries (used)",
    "CREATE TABLE IF NOT EXISTS data (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL)",
)


def lay_out(connection):
    """Choose, of a file that holds nothing yet, the pages."""
    if _pragma(connection, "page_count") == 0:
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")


def make_tables(connection):
    """Make the tables that are not there."""
    for statement in _SCHEMA:
        connection.execute(statement)


def select_rows(connection, query, keys):
    """Run a query for some keys.

    Parameters
    ----------
    connection : sqlite3.Connection
    query : str
        With ``{}`` in the place of the list of keys.
    keys : collection of bytes

    Returns
    -------
    rows : list of tuple
        Those that can be read.
    error : Exception or None
        The first one that a damaged place in the file raised.
    """
    keys, rows, first_error = list(keys), [], None
    for i in range(0, len(keys), _CHUNK):
        chunk = keys[i : i + _CHUNK]
        marks = ",".join("?" * len(chunk))
        try:
            rows += connection.execute(query.format(marks), chunk).fetchall()
        except sqlite3.OperationalError as error:  # of the moment, not of the file
            if str(error).startswith("no such table"):  # a file just made
                return [], None
            raise
        except Exception as error:
            first_error = first_error or error
            rows += _select_each(connection, query.format("?"), chunk)
    return rows, first_error


def _select_each(connection, query, keys):
    rows = []
    for key in keys:
        with suppress(Exception):
            rows += connection.execute(query, (key,)).fetchall()
    return rows


def insert_rows(connection, rows):
    """Write arrays (dict of bytes to ndarray) that are not there yet."""
    now = time.time()
    for key, row in rows.items():
        data, dtype = np.ascontiguousarray(row).tobytes(), row.dtype.str
        shape = ",".join(map(str, row.shape))
        checksum = _checksum(key, dtype.encode(), shape.encode(), data)
        cursor = connection.execute(
            "INSERT OR IGNORE INTO entries (key, used, dtype, shape, checksum) "
            "VALUES (?, ?, ?, ?, ?)",
            (key, now, dtype, shape, checksum),
        )
        if cursor.rowcount:
            connection.execute(
                "INSERT OR REPLACE INTO data VALUES (?, ?)", (cursor.lastrowid, data)
            )
        else:  # where damage has taken the bytes and left the entry
            connection.execute(
                "INSERT OR IGNORE INTO data SELECT id, ? FROM entries WHERE key = ?",
                (data, key),
            )


def _checksum(key, dtype, shape, data):
    # With the key: a damaged index may lead from one to the row of another.
    return zlib.crc32(data, zlib.crc32(dtype + b" " + shape, zlib.crc32(key)))


def decode(key, dtype, shape, checksum, data):
    """Return the array of a row, or None if anything about it is wrong.

    Parameters
    ----------
    key, dtype, shape, data : bytes
    checksum : int
    """
    try:
        if _checksum(key, dtype, shape, data) != checksum:
            return None
        lengths = [int(n) for n in shape.split(b",")] if shape else []
        return np.frombuffer(data, dtype=np.dtype(dtype.decode())).reshape(lengths)
    except Exception:  # a damaged file may hold anything
        return None


def delete_rows(connection, keys):
    """Delete the rows of some keys."""
    for key in keys:
        connection.execute(
            "DELETE FROM data WHERE id IN (SELECT id FROM entries WHERE key = ?)",
            (key,),
        )
        connection.execute("DELETE FROM entries WHERE key = ?", (key,))


def touch_rows(connection, keys):
    """Note that some keys are in use."""
    now = time.time()
    connection.executemany(
        "UPDATE entries SET used = ? WHERE key = ?", [(now, key) for key in keys]
    )


def used_bytes(connection):
    """Bytes of the file that hold something (int)."""
    pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return pages * _PAGE


def _pragma(connection, name):
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def room_for(rows):
    """Bytes that a file needs, at most, to hold these rows alone (int)."""
    return _EMPTY + _incoming(rows)


def _incoming(rows):
    return sum(row.nbytes + 2 * _PAGE for row in rows.values())


def make_room(connection, rows, budget):
    """Delete what was used longest ago, if rows do not fit into the budget.

    Raises
    ------
    sqlite3.DatabaseError
        If the file is damaged, so that deleting makes no room.
    """
    room = budget - _incoming(rows)
    if used_bytes(connection) <= room:
        return
    target = max(_EMPTY, _KEPT_SHARE * budget - _incoming(rows))
    while used_bytes(connection) > target and _evict(connection, target):
        pass
    if used_bytes(connection) > room:
        raise sqlite3.DatabaseError("deleting its rows makes no room")


def _evict(connection, target):
    """Delete some rows used longest ago; return whether there were any."""
    query = "SELECT id FROM entries ORDER BY used, id LIMIT ?"
    oldest = connection.execute(query, (_EVICTED,)).fetchall()
    before = connection.total_changes
    for row in oldest:
        if used_bytes(connection) <= target:
            break
        connection.execute("DELETE FROM data WHERE id = ?", row)
        connection.execute("DELETE FROM entries WHERE id = ?", row)
    return connection.total_changes > before


def exceeds(connection, budget):
    """Whether the file is larger than the budget, as after that was lowered."""
    return _pragma(connection, "page_count") * _PAGE > budget


def shrink(connection, budget):
    """Give some pages that hold nothing back to the file system.

    Returns whether the file is still larger than the budget and can be smaller.
    """
    connection.execute(f"PRAGMA incremental_vacuum({_RELEASED})").fetchall()
    return exceeds(connection, budget) and _pragma(connection, "freelist_count") > 0
