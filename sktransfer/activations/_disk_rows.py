"""SQL that reads, writes and deletes the rows of a store, within a budget."""

import json
import math
import sqlite3
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from sqlite3 import Connection
from typing import Any

import numpy as np

from sktransfer.activations._batches import n_bytes

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


def lay_out(connection: Connection) -> None:
    """Set the size of the pages of a file that is still empty."""
    if _pragma(connection, "page_count") == 0:
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")


def make_tables(connection: Connection) -> None:
    """Create the tables, unless they exist."""
    for statement in _SCHEMA:
        connection.execute(statement)


def select_rows(connection: Connection, query: str, keys: Iterable[bytes]) -> tuple:
    """Run a query whose ``{}`` stands for the list of keys.

    Returns the rows that can be read (list of tuple), and the first exception that is
    due to a damaged file, or None.
    """
    keys, rows, first_error = list(keys), [], None
    for i in range(0, len(keys), _CHUNK):
        chunk = keys[i : i + _CHUNK]
        marks = ",".join("?" * len(chunk))
        try:
            rows += connection.execute(query.format(marks), chunk).fetchall()
        except sqlite3.OperationalError as error:  # transient, not due to damage
            if str(error).startswith("no such table"):  # of a new file
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


def insert_rows(connection: Connection, rows: dict) -> None:
    """Write rows, by their keys, that are not in the file."""
    now = time.time()
    for key, row in rows.items():
        dtype, shape, data = _encode(row)
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
        else:  # the entry may be there without its bytes, in a damaged file
            connection.execute(
                "INSERT OR IGNORE INTO data SELECT id, ? FROM entries WHERE key = ?",
                (data, key),
            )


def _encode(row):
    """Return the dtype and the shape of a row as text, and its bytes."""
    if not isinstance(row, dict):
        shape = ",".join(map(str, row.shape))
        return row.dtype.str, shape, np.ascontiguousarray(row).tobytes()
    parts = {name: _encode(array) for name, array in row.items()}
    dtypes = {name: dtype for name, (dtype, _, _) in parts.items()}
    shapes = {name: shape for name, (_, shape, _) in parts.items()}
    data = b"".join(data for _, _, data in parts.values())
    return json.dumps(dtypes), json.dumps(shapes), data


def _checksum(key, dtype, shape, data):
    # It includes the key, as a damaged index may lead to the row of another key.
    return zlib.crc32(data, zlib.crc32(dtype + b" " + shape, zlib.crc32(key)))


def decode(key: bytes, dtype: bytes, shape: bytes, checksum: int, data: bytes) -> Any:
    """Return the array, or the dict of arrays, of a row; None if it is damaged."""
    try:
        if _checksum(key, dtype, shape, data) != checksum:
            return None
        if not dtype.startswith(b"{"):
            return _array(data, dtype.decode(), shape.decode())
        row, shapes = {}, json.loads(shape)
        for name, of_array in json.loads(dtype).items():
            n = _size(of_array, shapes[name])
            row[name] = _array(data[:n], of_array, shapes[name])
            data = data[n:]
        return row
    except Exception:  # a damaged file may hold anything
        return None


def _array(data, dtype, shape):
    return np.frombuffer(data, np.dtype(dtype)).reshape(_lengths(shape))


def _size(dtype, shape):
    return np.dtype(dtype).itemsize * math.prod(_lengths(shape))


def _lengths(shape):
    return [int(n) for n in shape.split(",")] if shape else []


def delete_rows(connection: Connection, keys: Iterable[bytes]) -> None:
    """Delete the rows of some keys."""
    for key in keys:
        connection.execute(
            "DELETE FROM data WHERE id IN (SELECT id FROM entries WHERE key = ?)",
            (key,),
        )
        connection.execute("DELETE FROM entries WHERE key = ?", (key,))


def touch_rows(connection: Connection, keys: Iterable[bytes]) -> None:
    """Record that the rows of some keys are in use."""
    now = time.time()
    connection.executemany(
        "UPDATE entries SET used = ? WHERE key = ?", [(now, key) for key in keys]
    )


def used_bytes(connection: Connection) -> int:
    """Count the bytes of the pages in use."""
    pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    return pages * _PAGE


def _pragma(connection, name):
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def room_for(rows: dict) -> int:
    """Return the largest size, in bytes, of a file with these rows alone."""
    return _EMPTY + _incoming(rows)


def _incoming(rows):
    return sum(n_bytes(row) + 2 * _PAGE for row in rows.values())


def make_room(connection: Connection, rows: dict, budget: int) -> None:
    """Delete the least recently used rows if new ones do not fit into the budget.

    If deleting makes no room, the file is damaged, and a sqlite3.DatabaseError is
    raised.
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
    """Delete some of the least recently used rows; return whether there were any."""
    query = "SELECT id FROM entries ORDER BY used, id LIMIT ?"
    oldest = connection.execute(query, (_EVICTED,)).fetchall()
    before = connection.total_changes
    for row in oldest:
        if used_bytes(connection) <= target:
            break
        connection.execute("DELETE FROM data WHERE id = ?", row)
        connection.execute("DELETE FROM entries WHERE id = ?", row)
    return connection.total_changes > before


def exceeds(connection: Connection, budget: int) -> bool:
    """Return whether the file is larger than the budget, which may be a lowered one."""
    return _pragma(connection, "page_count") * _PAGE > budget


def shrink(connection: Connection, budget: int) -> bool:
    """Return some unused pages to the file system.

    The result says whether the file is still too large and can be made smaller.
    """
    connection.execute(f"PRAGMA incremental_vacuum({_RELEASED})").fetchall()
    return exceeds(connection, budget) and _pragma(connection, "freelist_count") > 0
