import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from sktransfer.activations import (
    _counts,
    add_trained,
    count_passes,
    forward_passes,
)
from sktransfer.activations._counts import add_computed, add_found


def test_counts_hold_for_the_block_alone(backbone):
    before = forward_passes().copy()
    stop = backbone.stage_names[0]
    work = backbone.multiply_adds("input", stop)
    add_computed(backbone, "input", stop, 1)
    with count_passes() as outer:
        add_computed(backbone, "input", stop, 2)
        for n in (20, 30):
            add_trained(backbone, stop, n)
        with count_passes() as inner:
            add_found(backbone, stop, 3)
    add_found(backbone, stop, 4)
    key = (backbone.name, "input", stop)
    assert outer.computed == {key: 2}
    assert outer.found == inner.found == {(backbone.name, stop): 3}
    assert outer.multiply_adds == {"computed": 2 * work, "found": 3 * work}
    assert inner.multiply_adds == {"computed": 0, "found": 3 * work}
    assert outer.trainings == {(backbone.name, stop): 2}
    assert outer.trained == {(backbone.name, stop): 50}
    assert not inner.trainings and not inner.trained
    assert forward_passes()[key] == before[key] + 3


class SlowCounter(Counter):
    """Lets other threads run between reading a number and writing its sum."""

    def __getitem__(self, key):
        count = super().__getitem__(key)
        time.sleep(0.01)
        return count


def test_threads_lose_no_counts(backbone, monkeypatch):
    monkeypatch.setattr(_counts, "_passes", SlowCounter())
    stop = backbone.stage_names[0]
    with ThreadPoolExecutor(4) as pool:
        [*pool.map(lambda _: add_computed(backbone, "input", stop, 1), range(8))]
    assert [*_counts._passes.values()] == [8]
