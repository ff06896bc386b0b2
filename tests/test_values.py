import numpy as np
import pytest

from sktransfer._values import Labelled, Validation, in_order
from sktransfer.inputs import VectorPreprocessing, as_samples
from sktransfer.model import ClassOutputs

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def labelled(rows, y, weight=None):
    samples = as_samples(rows, VectorPreprocessing(rows.shape[1]))
    outputs = ClassOutputs.learn(y)
    return Labelled.of(samples, y, weight, outputs, lambda y, weight, outputs: weight)


def test_validation_samples_are_needed_with_their_labels():
    assert Validation(None, None, None).check() is None
    given = Validation([1], None, [2])
    assert given.check() is given
    with pytest.raises(ValueError, match="^`X_val` is needed with `y_val`. Got None.$"):
        Validation(None, [1], None).check()


def test_equal_samples_are_merged_and_those_without_weight_left_out():
    rows = np.concatenate([ROWS, ROWS[:1]])
    data = labelled(rows, [0, 1, 0, 1, 0], np.array([1.0, 2.0, 3.0, 0.0, 4.0]))
    assert len(data.samples) == 3 and sorted(data.weight) == [2, 3, 5]
    assert sorted(data.y) == [0, 0, 1]


def test_taken_samples_keep_their_digests():
    data = labelled(ROWS, [0, 1, 0, 1])
    rest, held = data.split(np.array([1, 3]))
    assert held.samples.digests == [data.samples.digests[i] for i in (1, 3)]
    assert rest.samples.digests == [data.samples.digests[i] for i in (0, 2)]
    assert held.y.tolist() == data.y[[1, 3]].tolist() and len(rest.samples) == 2


def test_order_of_contents_does_not_depend_on_that_of_the_samples():
    one, other = (
        in_order(as_samples(rows, VectorPreprocessing(3)))
        for rows in (ROWS, ROWS[::-1])
    )
    assert one.digests == other.digests == sorted(one.digests)


def test_equal_samples_are_warned_of():
    with pytest.warns(UserWarning, match="^All 2 samples are equal: there is nothing"):
        labelled(np.ones((2, 3), dtype=np.float32), [0, 1])
