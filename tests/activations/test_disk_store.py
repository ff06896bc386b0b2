import multiprocessing
import os
import re
import resource
import shutil
import signal
import sqlite3
import tempfile
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import sktransfer
from sktransfer.activations import _disk_store
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


def test_a_process_has_one_store_per_folder(tmp_path):
    assert open_disk_store(tmp_path) is open_disk_store(str(tmp_path))
    assert open_disk_store(tmp_path / "b") is not open_disk_store(tmp_path)


def test_budget_holds_and_least_recently_used_rows_are_deleted(tmp_path):
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


def _in_children(*functions, exitcode=0):
    """Call functions in forked processes at the same time; they may fail assertions."""
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=function) for function in functions]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
        for child in children:
            child.start()
    for child in children:
        child.join()
    assert {child.exitcode for child in children} == {exitcode}


def test_processes_write_the_same_keys(tmp_path):
    rows = _rows(100, seed=3)

    def write():
        store, keys = DiskStore(str(tmp_path)), [*rows]
        for first in range(0, 100, 10):
            part = {key: rows[key] for key in keys[first : first + 10]}
            store.put(part)
            _assert_same(store.get(part), part)

    _in_children(write, write, write)
    _assert_same(DiskStore(str(tmp_path)).get(rows), rows)


def test_a_store_opened_before_a_fork_works_after_it(tmp_path):
    store = DiskStore(str(tmp_path))
    store.put(_rows(3))
    _in_children(lambda: store.put(_rows(3, seed=1)))
    both = {**_rows(3), **_rows(3, seed=1)}
    _assert_same(store.get(both), both)


def test_kill_during_a_write_loses_only_that_write(tmp_path, monkeypatch):
    write = _disk_store.insert_rows

    def killed(connection, rows):
        connection.execute("PRAGMA cache_size = 1")  # so that half of it is written
        write(connection, rows)
        connection.execute("INSERT INTO entries VALUES (NULL, x'00', 0.0, 'a', '', 0)")
        os.kill(os.getpid(), signal.SIGKILL)

    def be_killed():
        store = DiskStore(str(tmp_path))
        store.put(_rows(50))
        monkeypatch.setattr(_disk_store, "insert_rows", killed)
        store.put(_rows(50, seed=1))

    _in_children(be_killed, exitcode=-signal.SIGKILL)
    (journal,) = tmp_path.glob("*-journal")
    assert journal.stat().st_size > 0
    store = DiskStore(str(tmp_path))
    _assert_same(store.get({**_rows(50), **_rows(50, seed=1)}), _rows(50))
    store.put(_rows(3, seed=1))
    _assert_same(store.get(_rows(3, seed=1)), _rows(3, seed=1))


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


def _flip(content, rng):
    for at in rng.randint(len(content), size=rng.randint(1, 30)):
        content[at] ^= 1 << rng.randint(8)


def _flip_in_a_head(content, rng):
    """Damage the header of a page."""
    page = 16_384 * rng.randint(len(content) // 16_384)
    for at in rng.randint(40, size=rng.randint(1, 6)):
        content[page + at] = rng.randint(256)


def _overwrite(content, rng):
    at, n = rng.randint(len(content)), rng.randint(1, 20_000)
    content[at : at + n] = rng.bytes(len(content[at : at + n]))


def _blank(content, rng):
    at = 4096 * rng.randint(len(content) // 4096)
    content[at : at + 4096] = bytes(4096)


def _swap_pages(content, rng):
    first, second = 16_384 * rng.randint(len(content) // 16_384, size=2)
    page = content[first : first + 16_384]
    content[first : first + 16_384] = content[second : second + 16_384]
    content[second : second + 16_384] = page


def _truncate(content, rng):
    del content[rng.randint(len(content)) :]


def _append(content, rng):
    content += rng.bytes(rng.randint(1, 40_000))


DAMAGES = [
    _flip,
    _flip_in_a_head,
    _overwrite,
    _blank,
    _swap_pages,
    _truncate,
    _append,
]


def _various(seed):
    """Return rows of one and of several pages, of several shapes and dtypes."""
    rng = np.random.RandomState(seed)
    shapes = [((7,), "f4"), ((3, 40, 60), "f2"), ((9_000,), "f4"), ((2, 5), "u1")]
    return {
        rng.bytes(32): (100 * rng.rand(*shape)).astype(dtype)
        for _ in range(6)
        for shape, dtype in shapes
    }


def test_damage_anywhere_gives_no_wrong_row_and_no_error(tmp_path):
    rows, more = _various(0), _various(1)
    store = DiskStore(str(tmp_path))
    store.put(rows)
    store._close()
    whole = (tmp_path / os.path.basename(store.path)).read_bytes()
    n_found, texts = [], []
    for case in range(300):
        rng = np.random.RandomState(case)
        content = bytearray(whole)
        DAMAGES[case % len(DAMAGES)](content, rng)
        with open(store.path, "wb") as file:
            file.write(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            store = DiskStore(str(tmp_path))
            budget = 3 * len(whole) if case % 2 else 1.1 * len(whole)
            with sktransfer.config_context(disk_budget=int(budget)):
                assert store.contains(rows) <= {*rows}
                for known in (rows, more, rows):
                    found = store.get(known)
                    _assert_same(found, {key: known[key] for key in found})
                    store.put(more)
                n_found.append(len(found))
            store._close()
        texts += [str(w.message) for w in caught]
        assert len(caught) <= 1, case
    assert all("goes on without it" in text for text in texts)
    assert 0 < len(texts) < 300 and len(rows) in n_found and 0 in n_found


@contextmanager
def _heard(n, text):
    """Expect a number of warnings of the store with a text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert len(caught) == n, [str(w.message) for w in caught]
    assert all(re.search(text, str(w.message)) for w in caught)


def test_temporarily_full_disk_loses_only_that_write(tmp_path):
    rows = _rows(20, size=10_000)

    def fill():
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
        store = DiskStore(str(tmp_path))
        text = "cannot be written .* goes on without it. It is tried again with every b"
        with _heard(1, text):
            for key, row in rows.items():
                store.put({key: row})
            found = store.get(rows)
            _assert_same(found, {key: rows[key] for key in found})
        assert 0 < len(found) < 10
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        store.put(rows)
        _assert_same(store.get(rows), rows)

    _in_children(fill)


@pytest.mark.parametrize("writable", [True, False])
def test_locked_store_is_tried_again(tmp_path, monkeypatch, writable):
    monkeypatch.setattr(_disk_store, "_WAIT", 0.0)
    monkeypatch.setattr(_disk_store, "_WAIT_AGAIN", 0.0)
    store, rows = DiskStore(str(tmp_path)), _rows(3)
    store.put(rows)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE" if writable else "BEGIN EXCLUSIVE")
    text = "database is locked.* Another process holds the file. It is tried again"
    with _heard(1, text):
        assert store.get(rows).keys() == (rows.keys() if writable else set())
        store.put(_rows(3, seed=1))
        store.put(_rows(3, seed=2))
    other.close()
    assert store.contains(_rows(3, seed=1)) == set()
    store.put(_rows(3, seed=1))
    _assert_same(store.get(_rows(3, seed=1)), _rows(3, seed=1))


def test_folder_that_is_removed_and_restored(tmp_path):
    folder = tmp_path / "store"
    store, rows = DiskStore(str(folder)), _rows(2)
    store.put(rows)
    folder.rename(tmp_path / "away")
    folder.touch()  # as nobody can make a folder where a file is
    with _heard(1, "cannot be written .*Not a directory.*, so this process goes on"):
        assert store.get(rows) == {}
        store.put(_rows(2, seed=1))
        store.put(_rows(2, seed=1))
    folder.unlink()
    (tmp_path / "away").rename(folder)
    store.put(_rows(2, seed=1))
    both = {**rows, **_rows(2, seed=1)}
    _assert_same(store.get(both), both)


@pytest.mark.parametrize("filled", [True, False])
def test_read_only_folder_is_read(filled):
    with tempfile.TemporaryDirectory() as folder:  # where other users may look
        _read_only(Path(folder), filled)


def _read_only(folder, filled):
    rows = _rows(3)
    if filled:
        writer = DiskStore(str(folder))
        writer.put(rows)
        with sqlite3.connect(writer.path) as connection:
            connection.execute("UPDATE entries SET used = 0.0")
        connection.close()
        writer._close()
        os.chmod(writer.path, 0o444)
    folder.chmod(0o555)

    def read():
        if os.getuid() == 0:  # who may write anywhere
            os.setegid(65534)
            os.seteuid(65534)
        try:
            read_as_other()
        finally:  # coverage writes its own file at exit
            os.seteuid(os.getuid())
            os.setegid(os.getgid())

    def read_as_other():
        store = DiskStore(str(folder))
        _assert_same(store.get(rows), rows if filled else {})
        with _heard(1, "cannot be written .*Check the permissions of the folder, or"):
            store.put(_rows(2, seed=1))
            store.put(_rows(2, seed=2))
        _assert_same(store.get(rows), rows if filled else {})

    _in_children(read)
    assert len([*folder.iterdir()]) == filled
    folder.chmod(0o755)


def _total(folder):
    return sum(path.stat().st_size for path in folder.iterdir())


def test_all_files_of_the_folder_stay_within_the_budget(tmp_path, monkeypatch):
    budget, sizes, write = 3 * 2**20, [], _disk_store.insert_rows

    def spy(connection, rows):
        write(connection, rows)
        sizes.append(_total(tmp_path))

    monkeypatch.setattr(_disk_store, "insert_rows", spy)
    store = DiskStore(str(tmp_path))
    with sktransfer.config_context(disk_budget=budget):
        for seed in range(30):
            store.put(_rows(20, size=10_000, seed=seed))
            assert _total(tmp_path) <= budget
    of_one = 20 * (40_000 + 2 * 16_384)
    assert budget - 2 * of_one < max(sizes) <= budget
    assert len(store.contains(_rows(20, seed=29))) == 20
    with sktransfer.config_context(disk_budget=budget // 3):
        store.put(_rows(1, size=10_000, seed=31))
        assert _total(tmp_path) <= budget // 3
    _assert_same(store.get(_rows(1, 10_000, seed=31)), _rows(1, 10_000, seed=31))


@pytest.mark.parametrize("umask", [0, 0o777])
def test_only_the_owner_may_read_the_files(tmp_path, umask):
    before = os.umask(umask)
    store = DiskStore(str(tmp_path / "store"))
    sizes = []
    try:
        store.put(_rows(1))
        with sqlite3.connect(store.path, isolation_level=None) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE entries SET used = 0.0")
            sizes = [*(tmp_path / "store").iterdir()]
            modes = {path.stat().st_mode & 0o777 for path in sizes}
        connection.close()
    finally:
        os.umask(before)
    assert len(sizes) == 2 and modes == {0o600}  # the store and its journal
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700


def test_folder_of_the_user_keeps_its_mode(tmp_path):
    (tmp_path / "store").mkdir(mode=0o750)
    mode = (tmp_path / "store").stat().st_mode
    DiskStore(str(tmp_path / "store")).put(_rows(1))
    assert (tmp_path / "store").stat().st_mode == mode


def test_damaged_file_is_not_written_to_and_created_again_once_deleted(tmp_path):
    store, rows = DiskStore(str(tmp_path)), _rows(2)
    content, file = b"this is not a database" * 100, Path(store.path)
    file.write_bytes(content)
    with _heard(1, "file is not a database.*The file is damaged: delete it, and it w"):
        store.put(rows)
        store.put(rows)
        assert store.get(rows) == {}
    assert file.read_bytes() == content
    file.unlink()
    store.put(rows)
    _assert_same(store.get(rows), rows)


def test_forks_while_other_threads_use_the_store(tmp_path):
    store, done = DiskStore(str(tmp_path)), threading.Event()
    n_written = []

    def use():
        while not done.is_set():
            rows = _rows(5, seed=len(n_written))
            store.put(rows)
            _assert_same(store.get(rows), rows)
            n_written.append(5)

    def child():
        rows = _rows(5, seed=10**6 + os.getpid())
        store.put(rows)
        _assert_same(store.get(rows), rows)

    thread = threading.Thread(target=use)
    thread.start()
    try:
        for _ in range(10):
            _in_children(child)
    finally:
        done.set()
        thread.join()
    for seed in range(len(n_written)):
        _assert_same(store.get(_rows(5, seed=seed)), _rows(5, seed=seed))
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


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


def test_folder_that_is_deleted_meanwhile_is_created_again(tmp_path):
    folder = tmp_path / "store"
    store, rows = open_disk_store(folder), _rows(2)
    store.put(rows)
    shutil.rmtree(folder)
    assert store.get(rows) == {}
    store.put(_rows(2, seed=1))
    _assert_same(DiskStore(str(folder)).get(_rows(2, seed=1)), _rows(2, seed=1))


def test_folder_with_any_name(tmp_path):
    folder = tmp_path / "a?mode=ro#b %41 \u00fc"
    store, rows = DiskStore(str(folder)), _rows(2)
    store.put(rows)
    _assert_same(DiskStore(str(folder)).get(rows), rows)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


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
