import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest

import sktransfer
from sktransfer.activations._disk_store import DiskStore, open_disk_store


def _rows(n, size=5_000, seed=0):
    rng = np.random.RandomState(seed)
    return {f"{seed}-{i}".encode(): rng.rand(size).astype(np.float32) for i in range(n)}


def _assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert found[key].dtype == row.dtype
        np.testing.assert_array_equal(found[key], row)


def test_rows_come_back_with_dtype_and_shape(tmp_path):
    rows = {
        b"a": np.arange(6, dtype=np.float16).reshape(1, 2, 3),
        b"b": np.arange(4, dtype=np.uint8),
        b"c": np.array(1.5, dtype=np.float32),
    }
    DiskStore(str(tmp_path)).put(rows)
    _assert_same(DiskStore(str(tmp_path)).get([*rows, b"none"]), rows)


def test_more_keys_than_a_query_takes(tmp_path):
    store, rows = DiskStore(str(tmp_path)), _rows(1_300, size=2)
    store.put(rows)
    assert store.contains(rows) == set(rows)
    _assert_same(store.get(rows), rows)


def test_a_process_has_one_store_a_folder(tmp_path):
    assert open_disk_store(tmp_path) is open_disk_store(str(tmp_path))
    assert open_disk_store(tmp_path / "b") is not open_disk_store(tmp_path)


def test_the_budget_holds_and_the_least_recently_used_go(tmp_path):
    store = DiskStore(str(tmp_path))
    budget = 4 * 2**20
    with sktransfer.config_context(disk_budget=budget):
        for seed in range(8):
            store.put(_rows(50, seed=seed))
            assert store.nbytes <= budget
    assert store.contains(_rows(50, seed=7)) == set(_rows(50, seed=7))
    assert store.contains(_rows(50, seed=0)) == set()
    assert os.path.getsize(store.path) <= 1.2 * budget


def test_a_batch_beyond_the_budget_is_left_out(tmp_path):
    store = DiskStore(str(tmp_path))
    with sktransfer.config_context(disk_budget=100_000):
        store.put(_rows(50))
    assert store.contains(_rows(50)) == set()


def _write(folder, seed):
    store = DiskStore(folder)
    for part in range(5):
        store.put(dict(list(_rows(50, seed=seed).items())[part * 10 : part * 10 + 10]))


def test_two_processes_write_the_same_keys(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=_write, args=(str(tmp_path), 3)) for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    _assert_same(DiskStore(str(tmp_path)).get(_rows(50, seed=3)), _rows(50, seed=3))


def test_a_store_opened_before_a_fork_works_after_it(tmp_path):
    store = DiskStore(str(tmp_path))
    store.put(_rows(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
        child = multiprocessing.get_context("fork").Process(
            target=store.put, args=(_rows(3, seed=1),)
        )
        child.start()
        child.join()
    assert child.exitcode == 0
    both = {**_rows(3), **_rows(3, seed=1)}
    _assert_same(store.get(both), both)


WRITER = """
import numpy as np, sys
from sktransfer.activations._disk_store import DiskStore
store = DiskStore(sys.argv[1])
for i in range(100_000):
    row = np.full(20_000, i, dtype=np.float32)
    store.put({f"{i}-{j}".encode(): row for j in range(20)})
    print(i, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_kill_during_a_write_loses_no_more_than_that_write(tmp_path, delay):
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(5):
        written = int(writer.stdout.readline())
    time.sleep(delay)
    writer.send_signal(signal.SIGKILL)
    with writer.stdout:
        rest = writer.stdout.read().split()
    written = max([written, *map(int, rest)])
    writer.wait()
    store = DiskStore(str(tmp_path))
    keys = [f"{i}-{j}".encode() for i in range(written + 3) for j in range(20)]
    found = store.get(keys)
    assert {f"{i}-{j}".encode() for i in range(written + 1) for j in range(20)} <= {
        *found
    }
    for key, row in found.items():
        np.testing.assert_array_equal(row, int(key.split(b"-")[0]))
    store.put({b"new": np.ones(3)})
    assert store.contains([b"new"]) == {b"new"}


def test_damaged_bytes_of_a_row_count_as_missing(tmp_path):
    store, rows = DiskStore(str(tmp_path)), _rows(4)
    store.put(rows)
    key = next(iter(rows))
    with sqlite3.connect(store.path) as connection:
        connection.execute(
            "UPDATE data SET bytes = zeroblob(length(bytes)) "
            "WHERE id = (SELECT id FROM entries WHERE key = ?)",
            (key,),
        )
    found = DiskStore(str(tmp_path)).get(rows)
    assert found.keys() == rows.keys() - {key}
    assert store.contains([key]) == set()  # so that it is computed and written anew


def _checkpointed(folder):
    """Write a store and fold its log into the main file."""
    store = DiskStore(str(folder))
    store.put(_rows(50))
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    store._connections.held.connection.close()
    return store.path


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_a_truncated_store_never_gives_a_wrong_row(tmp_path, share):
    path = _checkpointed(tmp_path)
    os.truncate(path, int(share * os.path.getsize(path)))
    _assert_usable_or_given_up(tmp_path)


def test_a_store_overwritten_with_noise_never_gives_a_wrong_row(tmp_path):
    path = _checkpointed(tmp_path)
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        for at in range(100, size, size // 50):
            file.seek(at)
            file.write(os.urandom(300))
    _assert_usable_or_given_up(tmp_path)


def test_a_file_that_is_no_store_is_given_up_with_advice(tmp_path):
    store = DiskStore(str(tmp_path))
    with open(store.path, "wb") as file:
        file.write(b"this is not a database" * 100)
    with pytest.warns(UserWarning, match="goes on without it.*delete it"):
        store.put(_rows(1))
    assert store.get(_rows(1)) == {}  # without another warning
    assert store.contains(_rows(1)) == set()


def _assert_usable_or_given_up(folder):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        store = DiskStore(str(folder))
        expected = _rows(50)
        for key, row in store.get(expected).items():
            np.testing.assert_array_equal(row, expected[key])
        store.put(_rows(2, seed=9))
    assert len(caught) <= 1
    assert all("goes on without it" in str(w.message) for w in caught)


FULL = """
import resource, sys, warnings, numpy as np
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
from sktransfer.activations._disk_store import DiskStore
store = DiskStore(sys.argv[1])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for i in range(20):
        store.put({str(i).encode(): np.full(10_000, i, dtype=np.float32)})
    found = store.get([str(i).encode() for i in range(20)])
print(len(caught), caught[0].message)
print(all((row == int(key)).all() for key, row in found.items()))
"""


def test_a_full_disk_is_survived_with_one_warning(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = run.stdout.splitlines()
    assert first.startswith("1 The activation store")
    assert "goes on without it" in first
    assert second == "True"


READ_ONLY = """
import os, sys, warnings, numpy as np
from sktransfer.activations._disk_store import DiskStore
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
store = DiskStore(sys.argv[1])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = store.get([b"a"])
    store.put({b"b": np.ones(2)})
    store.put({b"c": np.ones(2)})
print(len(caught), caught[0].message)
"""


@pytest.mark.parametrize("filled", [True, False])
def test_a_read_only_folder_is_done_without_with_one_warning(tmp_path, filled):
    folder = tmp_path / "store"
    folder.mkdir()
    if filled:
        _checkpointed(folder)
    for path in [*folder.iterdir(), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in [tmp_path, *tmp_path.parents[:3]]:
        if str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o555)
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READ_ONLY), str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith("1 The activation store")
    assert "Check the permissions" in run.stdout
    folder.chmod(0o755)


def test_row_that_the_index_gives_to_another_key_counts_as_missing(tmp_path):
    store, rows = DiskStore(str(tmp_path)), _rows(2)
    store.put(rows)
    first, second = rows
    with sqlite3.connect(store.path) as connection:
        swap = "UPDATE entries SET key = ? WHERE key = ?"
        for new, old in [(b"-", first), (first, second), (second, b"-")]:
            connection.execute(swap, (new, old))
    connection.close()
    assert DiskStore(str(tmp_path)).get(rows) == {}


def test_folder_that_is_deleted_meanwhile_is_made_anew(tmp_path):
    folder = tmp_path / "store"
    store, rows = open_disk_store(folder), _rows(2)
    store.put(rows)
    shutil.rmtree(folder)
    assert store.get(rows) == {}
    store.put(_rows(2, seed=1))
    _assert_same(DiskStore(str(folder)).get(_rows(2, seed=1)), _rows(2, seed=1))


def test_few_stores_stay_open(tmp_path):
    stores = [open_disk_store(tmp_path / str(k)) for k in range(20)]
    assert open_disk_store(tmp_path / "19") is stores[19]
    assert open_disk_store(tmp_path / "0") is not stores[0]
    for store in (stores[0], stores[19]):  # and the others still work
        store.put(_rows(1))
        _assert_same(store.get(_rows(1)), _rows(1))


def test_row_without_a_time_of_use_is_read(tmp_path):
    store, rows = DiskStore(str(tmp_path)), _rows(1)
    store.put(rows)
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE entries SET used = 'damaged'")
    connection.close()
    _assert_same(DiskStore(str(tmp_path)).get(rows), rows)
