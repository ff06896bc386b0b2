import sqlite3
import warnings

import numpy as np
import pytest

import sktransfer
from sktransfer.activations import _disk_rows as disk_rows
from sktransfer.activations._disk_store import DiskStore


def _rows(n, size=5_000, seed=0):
    rng = np.random.RandomState(seed)
    return {f"{seed}-{i}".encode(): rng.rand(size).astype(np.float32) for i in range(n)}


def _assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        np.testing.assert_array_equal(found[key], row)


@pytest.fixture
def connection():
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.text_factory = bytes
    disk_rows.lay_out(made)
    disk_rows.make_tables(made)
    yield made
    made.close()


QUERY = "SELECT key FROM entries WHERE key IN ({})"


def _keys(connection):
    return {key for (key,) in connection.execute("SELECT key FROM entries")}


def test_rows_are_selected_in_chunks_and_deleted(connection):
    rows = _rows(1_300, size=2)
    disk_rows.insert_rows(connection, rows)
    found, error = disk_rows.select_rows(connection, QUERY, [*rows, b"none"])
    assert {key for (key,) in found} == {*rows} and error is None
    disk_rows.delete_rows(connection, [*rows][:1_000])
    assert _keys(connection) == {*[*rows][1_000:]}
    assert connection.execute("SELECT count(*) FROM data").fetchone() == (300,)


def test_nothing_is_selected_where_there_are_no_tables():
    empty = sqlite3.connect(":memory:")
    assert disk_rows.select_rows(empty, QUERY, [b"a"]) == ([], None)
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        disk_rows.select_rows(empty, "SELEKT {}", [b"a"])
    empty.close()


def test_key_that_raises_costs_no_other(connection):
    rows = _rows(20, size=2)
    disk_rows.insert_rows(connection, rows)
    broken = {*rows, 3.5j}  # which is no value of SQLite's
    found, error = disk_rows.select_rows(connection, QUERY, broken)
    assert {key for (key,) in found} == {*rows}
    assert isinstance(error, sqlite3.Error)


def test_rows_used_longest_ago_make_room(connection):
    rows, more = _rows(300, size=8_000), _rows(10, size=8_000, seed=1)
    disk_rows.insert_rows(connection, rows)
    kept = [*rows][:20]
    connection.execute("UPDATE entries SET used = 0.0")
    disk_rows.touch_rows(connection, kept)
    budget = disk_rows.used_bytes(connection)
    disk_rows.make_room(connection, more, budget)
    left = _keys(connection)
    assert {*kept} < left < {*rows} and len(left) >= 150
    before = disk_rows.used_bytes(connection)
    disk_rows.make_room(connection, more, budget)
    assert disk_rows.used_bytes(connection) == before
    assert not disk_rows.exceeds(connection, budget)
    assert disk_rows.exceeds(connection, budget // 2)
    disk_rows.make_room(connection, more, budget // 2)
    while disk_rows.shrink(connection, budget // 2):
        pass
    assert not disk_rows.exceeds(connection, budget // 2)
    assert _keys(connection) < left


def test_room_for_rows_is_enough_for_a_file_of_them(connection):
    for seed, size in enumerate((1, 4_000, 100_000)):
        rows = _rows(10, size, seed)
        disk_rows.delete_rows(connection, _keys(connection))
        disk_rows.insert_rows(connection, rows)
        assert disk_rows.used_bytes(connection) <= disk_rows.room_for(rows)


def test_row_is_decoded_if_nothing_of_it_is_wrong(connection):
    row = np.arange(6, dtype=np.float16).reshape(2, 3)
    disk_rows.insert_rows(connection, {b"key": row})
    query = (
        "SELECT key, dtype, shape, checksum, bytes FROM entries JOIN data USING (id)"
    )
    content = list(connection.execute(query).fetchone())
    np.testing.assert_array_equal(disk_rows.decode(*content), row)
    others = b"kez", b"<f4", b"3,2", content[3] + 1, content[4][::-1]
    for at, other in enumerate(others):
        for value in (other, None, 7, 1e300, "text", b""):
            wrong = [*content[:at], value, *content[at + 1 :]]
            assert disk_rows.decode(*wrong) is None


def _change(path, *statements):
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_file_whose_entries_are_lost_makes_no_room(tmp_path):
    store = DiskStore(str(tmp_path))
    store.put(_rows(20, size=20_000))
    _change(store.path, "DELETE FROM entries")
    with sktransfer.config_context(disk_budget=1_000_000):
        text = "deleting its rows makes no room.*damaged: delete it"
        with pytest.warns(UserWarning, match=text):
            store.put(_rows(5, seed=1))
    assert store.contains(_rows(5, seed=1)) == set()


def test_row_whose_bytes_are_lost_is_written_again(tmp_path):
    store, rows = DiskStore(str(tmp_path)), _rows(3)
    store.put(rows)
    _change(store.path, "DELETE FROM data WHERE id = 2")
    assert len(store.get(rows)) == 2
    store.put(rows)
    _assert_same(store.get(rows), rows)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET key = 10000000000000 + id",
        "UPDATE entries SET key = 'text' || id",
        "UPDATE entries SET dtype = CAST(x'ff80fe' AS TEXT)",
        "UPDATE entries SET dtype = 5, shape = 1e300, checksum = 'a'",
        "UPDATE entries SET shape = '99999999999999999999999,-1'",
        "UPDATE entries SET used = x'00', checksum = -9e18",
        "UPDATE data SET bytes = 12",
        "DROP TABLE data",
        "ALTER TABLE entries RENAME COLUMN shape TO form",
    ],
)
def test_values_of_other_types_count_as_damage(tmp_path, change):
    store, rows = DiskStore(str(tmp_path)), _rows(3)
    store.put(rows)
    _change(store.path, change)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The activation store")
        assert store.get(rows) == {}
        store.put(_rows(2, seed=1))
        found = store.get(_rows(2, seed=1))
    assert found.keys() in (set(), _rows(2, seed=1).keys())


def test_groups_of_arrays_come_back(tmp_path):
    rows = {
        b"a": {
            "hidden": np.arange(12, dtype=np.float16).reshape(4, 3),
            "mask": np.array([True, True, False, False]),
        },
        b"b": {"é:{}": np.zeros((0, 2), np.int64), "scalar": np.array(1.5)},
        b"c": np.ones(3, np.float32),
    }
    DiskStore(str(tmp_path)).put(rows)
    found = DiskStore(str(tmp_path)).get(rows)
    assert found.keys() == rows.keys()
    for key, row in rows.items():
        np.testing.assert_equal(found[key], row)
    assert found[b"a"]["mask"].dtype == bool
