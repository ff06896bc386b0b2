import numpy as np
import pytest
from sklearn.utils.class_weight import compute_sample_weight

from sktransfer.training import merge_equal, weigh_classes

Y = np.array(["a", "b", "b", "c", "c", "c"])
ONES = np.ones(6)


def test_no_class_weight_changes_nothing():
    assert weigh_classes(None, Y, ONES) is ONES


@pytest.mark.parametrize("class_weight", ["balanced", {"a": 2.0, "c": 0.5}])
def test_class_weights_are_those_of_sklearn(class_weight):
    weights = weigh_classes(class_weight, Y, ONES)
    np.testing.assert_allclose(weights, compute_sample_weight(class_weight, Y))


def test_class_weights_multiply_sample_weights():
    weights = weigh_classes({"a": 2.0, "c": 0.5}, Y, np.arange(6.0))
    assert weights.tolist() == [0.0, 1.0, 2.0, 1.5, 2.0, 2.5]


def test_balanced_gives_classes_equal_totals():
    sample_weight = np.array([1.0, 2.0, 0.0, 3.0, 1.0, 5.0])
    weights = weigh_classes("balanced", Y, sample_weight)
    assert [weights[Y == label].sum() for label in "abc"] == pytest.approx([4.0] * 3)
    assert weights[2] == 0.0


def test_balanced_leaves_out_a_class_without_weight():
    weights = weigh_classes("balanced", Y, np.array([0.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    assert weights.tolist() == pytest.approx([0.0, 1.25, 1.25] + [5 / 6] * 3)


def test_balanced_without_any_weight():
    assert weigh_classes("balanced", Y, np.zeros(6)).tolist() == [0.0] * 6


DIGESTS = [b"b", b"a", b"b", b"c", b"b"]
CODES = np.array([0, 1, 0, 1, 1])


def test_equal_samples_become_one_with_the_sum_of_the_weights():
    indices, weights = merge_equal(DIGESTS, CODES, np.array([1.0, 2.0, 4.0, 8.0, 16.0]))
    assert indices.tolist() == [1, 0, 4, 3]
    assert weights.tolist() == [2.0, 5.0, 16.0, 8.0]


def test_samples_without_weight_are_left_out():
    indices, weights = merge_equal(DIGESTS, CODES, np.array([0.0, 0.0, 1.0, 0.5, 0.0]))
    assert indices.tolist() == [2, 3] and weights.tolist() == [1.0, 0.5]
    indices, weights = merge_equal(DIGESTS, CODES, np.zeros(5))
    assert indices.shape == weights.shape == (0,)


def test_merging_does_not_depend_on_the_order():
    rng = np.random.RandomState(0)
    digests = [bytes([i]) for i in rng.randint(0, 20, 200)]
    codes, weight = rng.randint(0, 2, 200), rng.rand(200)
    indices, weights = merge_equal(digests, codes, weight)
    order = rng.permutation(200)
    shuffled = [digests[i] for i in order]
    again, same = merge_equal(shuffled, codes[order], weight[order])
    assert weights.tolist() == same.tolist()
    assert [digests[i] for i in indices] == [shuffled[i] for i in again]
    assert len(indices) == len({*zip(digests, codes, strict=True)})
