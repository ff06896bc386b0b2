import joblib
import numpy as np
import pytest

import sktransfer
from sktransfer.activations._disk_store import open_disk_store
from sktransfer.activations._store import (
    Cost,
    MemoryStore,
    Namespace,
    Store,
    choose,
    open_store,
    process_store,
)


def test_none_is_the_store_of_the_process():
    store = open_store(None)
    assert store.memory is process_store()
    assert store.disk is None


def test_a_folder_and_a_joblib_memory_mean_the_same(tmp_path):
    by_folder = open_store(tmp_path)
    by_memory = open_store(joblib.Memory(tmp_path, verbose=0))
    assert by_folder.disk is open_disk_store(tmp_path)
    assert by_memory.disk is by_folder.disk
    assert open_store(joblib.Memory(None)).disk is None


def test_anything_else_is_refused():
    with pytest.raises(TypeError, match="`memory` must be a folder.* Got 3"):
        open_store(3)


def test_rows_found_on_disk_are_copied_to_memory(tmp_path):
    disk = open_disk_store(tmp_path)
    Store(MemoryStore(), disk).put({b"a": np.ones(3), b"b": np.zeros(3)})
    store = Store(MemoryStore(), disk)
    assert store.contains([b"a", b"b", b"c"]) == {b"a", b"b"}
    assert store.get([b"a", b"c"]).keys() == {b"a"}
    assert store.memory.contains([b"a", b"b"]) == {b"a"}


def test_rows_that_must_not_be_shared_stay_in_memory(tmp_path):
    disk = open_disk_store(tmp_path)
    store = Store(MemoryStore(), disk)
    store.put({b"a": np.ones(3)}, on_disk=False)
    assert store.contains([b"a"], on_disk=False) == {b"a"}
    assert store.get([b"a"], on_disk=False).keys() == {b"a"}
    assert disk.contains([b"a"]) == set()
    disk.put({b"b": np.ones(3)})
    assert store.contains([b"a", b"b"], on_disk=False) == {b"a"}
    assert store.get([b"a", b"b"], on_disk=False).keys() == {b"a"}


def test_rows_of_another_shape_or_dtype_are_deleted(tmp_path):
    disk = open_disk_store(tmp_path)
    right = np.ones(3, dtype=np.float32)
    wrong = {b"b": right.reshape(3, 1), b"c": right.astype(np.uint8)}
    store = Store(MemoryStore(), disk)

    def fits(row):
        return row.shape == (3,) and row.dtype in (np.float16, np.float32)

    disk.put({b"a": right, **wrong})
    store.memory.put(wrong)
    assert store.get([b"a", b"b", b"c"], fits=fits).keys() == {b"a"}
    assert store.contains([b"a", b"b", b"c"]) == {b"a"}
    store.put({b"b": right})
    assert store.get([b"b"], fits=fits).keys() == {b"b"}


def _row(n_bytes, value=0):
    return np.full(n_bytes, value, dtype=np.uint8)


def test_rows_come_back_and_absent_ones_do_not():
    store = MemoryStore()
    store.put({b"a": _row(4, 1)})
    assert store.contains([b"a", b"b"]) == {b"a"}
    found = store.get([b"a", b"b"])
    assert list(found) == [b"a"]
    np.testing.assert_array_equal(found[b"a"], _row(4, 1))


def test_least_recently_used_rows_are_discarded_first():
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


DIGESTS = [bytes([k]) * 16 for k in range(3)]
MAPS = Namespace(b"maps", (2, 3), is_input=False)


@pytest.fixture
def store():
    return Store(MemoryStore())


def test_rows_come_back_by_the_digests_of_samples(store):
    rows = [np.full((2, 3), k, dtype=np.float16) for k in range(2)]
    store.put(MAPS.with_keys(DIGESTS[:2], rows))
    found = MAPS.get(store, DIGESTS)
    assert found.keys() == {*DIGESTS[:2]} == MAPS.contains(store, DIGESTS)
    np.testing.assert_array_equal(found[DIGESTS[1]], rows[1])
    assert not Namespace(b"other", (2, 3), is_input=False).contains(store, DIGESTS)


@pytest.mark.parametrize(
    "row",
    [
        np.zeros((3, 2), np.float16),
        np.zeros(6, np.float32),
        np.zeros((2, 3), np.float64),
        np.zeros((2, 3), np.uint8),
    ],
    ids=["turned", "flat", "float64", "pixels"],
)
def test_what_cannot_be_a_row_counts_as_missing(store, row):
    store.put(MAPS.with_keys(DIGESTS[:1], [row]))
    assert MAPS.get(store, DIGESTS) == {}


def test_model_inputs_are_pixels_or_numbers(store):
    namespace = Namespace(b"input", (2, 3), is_input=True)
    kinds = np.uint8, np.float32, np.float16
    rows = [np.zeros((2, 3), kind) for kind in kinds]
    store.put(namespace.with_keys(DIGESTS, rows))
    assert namespace.get(store, DIGESTS).keys() == {*DIGESTS[:2]}


def _cost(boundary, seconds, nbytes, asked=False, keep=0.001):
    return Cost(boundary, asked, nbytes, seconds, keep)


def test_what_is_faster_to_compute_is_not_kept():
    (decided,) = choose([_cost("a", 0.0005, 10, asked=True)], 10, 10**6)
    assert not decided.kept
    assert decided.reason == "faster to compute than to keep"


def test_what_exceeds_the_budget_is_not_kept():
    (decided,) = choose([_cost("a", 1.0, 1_000, asked=True)], 10, 9_999)
    assert not decided.kept
    assert decided.reason == "10,000 bytes exceed the budget of 9,999"


def test_targets_are_kept_first():
    decided = choose([_cost("a", 1.0, 1_000, asked=True)], 10, 10_000)
    assert decided[0].kept


def test_boundaries_on_the_way_fill_half_of_the_budget_by_time_saved_per_byte():
    measured = [
        _cost("early", 0.1, 400),
        _cost("middle", 0.5, 300),
        _cost("late", 0.9, 200),
        _cost("end", 1.0, 10, asked=True),
    ]
    decided = {c.boundary: c.kept for c in choose(measured, 1, 1_000)}
    assert decided == {"early": False, "middle": True, "late": True, "end": True}


def test_boundaries_on_the_way_are_kept_if_storing_is_cheap():
    measured = [
        _cost("costly", 0.006, 10),
        _cost("cheap", 0.007, 10),
        _cost("asked", 0.008, 10, asked=True),
    ]
    costly, cheap, asked = choose(measured, 1, 1_000)
    assert not costly.kept and cheap.kept and asked.kept
    assert costly.reason == "not asked for, and not cheap to keep"


def test_boundaries_on_the_way_are_kept_if_they_save_time_after_the_previous_one():
    measured = [
        _cost("input", 0.010, 10),
        _cost("next", 0.011, 10),
        _cost("later", 0.018, 10),
    ]
    assert [c.kept for c in choose(measured, 1, 1_000)] == [True, False, True]


GROUPS = Namespace(b"groups", {"hidden": (4, 3), "mask": (4,)}, is_input=False)


def _group(length=4, width=3, dtype=np.float16):
    return {"hidden": np.zeros((length, width), dtype), "mask": np.ones(length, bool)}


def test_groups_may_differ_in_length_alone(store):
    rows = [_group(), _group(8), _group(dtype=np.float32)]
    store.put(GROUPS.with_keys(DIGESTS, rows))
    assert GROUPS.get(store, DIGESTS).keys() == {*DIGESTS}
    wrong = [
        _group(width=2),
        _group(dtype=np.float64),
        {"hidden": np.zeros((4, 3), np.float16)},
        {**_group(), "more": np.zeros(3)},
        {**_group(), "mask": np.ones((4, 1), bool)},
        {**_group(), "mask": np.array(True)},
        np.zeros((4, 3), np.float16),
    ]
    for row in wrong:
        store.put(GROUPS.with_keys(DIGESTS[:1], [row]))
        assert GROUPS.get(store, DIGESTS[:1]) == {}
    store.put(MAPS.with_keys(DIGESTS[:1], [_group()]))
    assert MAPS.get(store, DIGESTS) == {}


def test_bytes_of_groups_count(store):
    store.put({b"a": _group()})
    assert store.memory.nbytes == 4 * 3 * 2 + 4
    store.memory.renew()
    assert store.memory.nbytes == 28
