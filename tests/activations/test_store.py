import joblib
import numpy as np
import pytest

from sktransfer.activations import open_store, process_store
from sktransfer.activations._disk_store import open_disk_store
from sktransfer.activations._memory_store import MemoryStore
from sktransfer.activations._store import Store


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


def test_what_is_found_on_disk_comes_to_memory(tmp_path):
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
