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
