import numpy as np
import pytest

from sktransfer.activations._memory_store import MemoryStore
from sktransfer.activations._space import Space
from sktransfer.activations._store import Store

DIGESTS = [bytes([k]) * 16 for k in range(3)]
MAPS = Space(b"maps", (2, 3), is_input=False)


@pytest.fixture
def store():
    return Store(MemoryStore())


def test_rows_come_back_by_the_digests_of_samples(store):
    rows = [np.full((2, 3), k, dtype=np.float16) for k in range(2)]
    store.put(MAPS.with_keys(DIGESTS[:2], rows))
    found = MAPS.get(store, DIGESTS)
    assert found.keys() == {*DIGESTS[:2]} == MAPS.contains(store, DIGESTS)
    np.testing.assert_array_equal(found[DIGESTS[1]], rows[1])
    assert not Space(b"other", (2, 3), is_input=False).contains(store, DIGESTS)


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
    space = Space(b"input", (2, 3), is_input=True)
    kinds = np.uint8, np.float32, np.float16
    rows = [np.zeros((2, 3), kind) for kind in kinds]
    store.put(space.with_keys(DIGESTS, rows))
    assert space.get(store, DIGESTS).keys() == {*DIGESTS[:2]}
