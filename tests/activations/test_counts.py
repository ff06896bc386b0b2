from sktransfer.activations import count_passes, forward_passes
from sktransfer.activations._counts import add_computed, add_found


def test_counts_hold_for_the_block_alone(backbone):
    before = forward_passes().copy()
    stop = backbone.stage_names[0]
    work = backbone.multiply_adds("input", stop)
    add_computed(backbone, "input", stop, 1)
    with count_passes() as outer:
        add_computed(backbone, "input", stop, 2)
        with count_passes() as inner:
            add_found(backbone, stop, 3)
    add_found(backbone, stop, 4)
    key = (backbone.name, "input", stop)
    assert outer.computed == {key: 2}
    assert outer.found == inner.found == {(backbone.name, stop): 3}
    assert outer.multiply_adds == {"computed": 2 * work, "found": 3 * work}
    assert inner.multiply_adds == {"computed": 0, "found": 3 * work}
    assert forward_passes()[key] == before[key] + 3
