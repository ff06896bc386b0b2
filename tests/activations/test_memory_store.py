import numpy as np

import sktransfer
from sktransfer.activations._memory_store import MemoryStore, process_store


def _row(n_bytes, value=0):
    return np.full(n_bytes, value, dtype=np.uint8)


def test_rows_come_back_and_absent_ones_do_not():
    store = MemoryStore()
    store.put({b"a": _row(4, 1)})
    assert store.contains([b"a", b"b"]) == {b"a"}
    found = store.get([b"a", b"b"])
    assert list(found) == [b"a"]
    np.testing.assert_array_equal(found[b"a"], _row(4, 1))


def test_what_was_used_longest_ago_is_forgotten_first():
    store = MemoryStore()
    with sktransfer.config_context(memory_budget=30):
        store.put({b"a": _row(10), b"b": _row(10), b"c": _row(10)})
        store.get([b"a"])
        store.put({b"d": _row(10)})
    assert store.contains([b"a", b"b", b"c", b"d"]) == {b"a", b"c", b"d"}
    assert store.nbytes == 30


def test_a_row_beyond_the_budget_is_not_kept():
    store = MemoryStore()
    with sktransfer.config_context(memory_budget=10):
        store.put({b"a": _row(5)})
        store.put({b"b": _row(11)})
    assert store.contains([b"a", b"b"]) == {b"a"}


def test_a_budget_of_zero_keeps_nothing():
    store = MemoryStore()
    with sktransfer.config_context(memory_budget=0):
        store.put({b"a": _row(1)})
    assert len(store) == 0


def test_a_row_put_again_counts_once():
    store = MemoryStore()
    store.put({b"a": _row(10)})
    store.put({b"a": _row(4)})
    assert store.nbytes == 4
    store.clear()
    assert (store.nbytes, len(store)) == (0, 0)


def test_rows_are_deleted():
    store = MemoryStore()
    store.put({b"a": _row(10), b"b": _row(5)})
    store.delete([b"a", b"c"])
    assert (store.nbytes, len(store)) == (5, 1)


def test_the_process_has_one_store():
    assert process_store() is process_store()
