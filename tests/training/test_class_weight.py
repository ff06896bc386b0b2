import numpy as np
import pytest
from sklearn.utils.class_weight import compute_sample_weight

from sktransfer.training import weigh_classes, weigh_labels

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


def test_list_is_for_labels():
    text = (
        r"must be a dict of the weights of classes, .* Got \[\{0: 1\}\]; a list is for"
    )
    with pytest.raises(ValueError, match=text):
        weigh_classes([{0: 1}], Y, ONES)


# Multilabel targets

LABELS = np.array([[0, 1, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1]], dtype=np.float32)
NAMES = np.array(["cat", "dog", "sky"])
WEIGHT = np.array([1.0, 2.0, 0.5, 0.5])


def weights_of(class_weight, weight=WEIGHT, names=NAMES):
    return weigh_labels(class_weight, LABELS, weight, names)


def test_balanced_gives_ones_and_zeros_equal_totals():
    found = weights_of("balanced")
    # Of a total of 4, the ones have 0.5 and 1, and the last label has only ones.
    np.testing.assert_allclose(found, [[2 / 3.5, 2 / 3, 1], [4, 2, 1]])
    for values, (of_zeros, of_ones) in zip(LABELS.T[:2], found.T[:2], strict=True):
        assert WEIGHT @ (values * of_ones) == pytest.approx(2)
        assert WEIGHT @ ((1 - values) * of_zeros) == pytest.approx(2)


def test_balanced_labels_are_those_of_sklearn():
    found = weights_of("balanced", np.ones(4))
    for values, by_value in zip(LABELS.T, found.T, strict=True):
        expected = compute_sample_weight("balanced", values)
        np.testing.assert_allclose(by_value[values.astype(int)], expected)


def test_dict_has_the_weights_of_ones():
    assert weights_of({"dog": 5, "sky": 0.5}).tolist() == [[1, 1, 1], [1, 5, 0.5]]
    by_position = weights_of({1: 5}, names=np.arange(3))
    assert by_position.tolist() == [[1, 1, 1], [1, 5, 1]]


def test_list_has_the_weights_of_both_values():
    found = weights_of([{0: 2, 1: 3}, {1: 4}, {}])
    assert found.tolist() == [[2, 1, 1], [3, 4, 1]]


def test_unknown_label_has_no_weight():
    text = (
        r"^`class_weight` must have no other keys than the labels of `y`, which are "
        r"\['cat', 'dog', 'sky'\]. Got \['cow'\]; .* use \{label: weight of its ones\}"
    )
    with pytest.raises(ValueError, match=text):
        weights_of({"cat": 2.0, "cow": 2.0})


def test_labels_have_no_other_values_than_zero_and_one():
    text = r"^`class_weight\[1\]` must have no other keys than 0 and 1. Got \[2\]"
    with pytest.raises(ValueError, match=text):
        weights_of([{}, {2: 1.0}, {}])


@pytest.mark.parametrize("weights", [[{0: 1}], [1.0, 2.0, 3.0]])
def test_list_has_a_dict_for_each_label(weights):
    text = (
        r"^`class_weight` as a list must hold a dict .* each of the 3 labels.* Got \["
    )
    with pytest.raises(ValueError, match=text):
        weights_of(weights)


@pytest.mark.parametrize("weight", [0.0, -1.0, np.inf, np.nan, "2"])
def test_weights_of_labels_are_positive_and_finite(weight):
    text = "^`class_weight` must hold positive, finite numbers .* `sample_weight` of 0"
    with pytest.raises(ValueError, match=text):
        weights_of({"cat": weight})


@pytest.mark.parametrize("weight", [-2.0, np.nan, np.inf])
def test_class_weights_must_be_finite_and_not_negative(weight):
    text = "^`class_weight` must hold finite numbers that are not negative. Got {"
    with pytest.raises(ValueError, match=text):
        weigh_classes({"a": 1.0, "c": weight}, Y, ONES)
