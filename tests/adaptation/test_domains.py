import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from sktransfer.adaptation._domains import (
    find_masked_sources,
    find_targets,
    hide_targets,
    masked_classes,
    masked_numbers,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([0, 1, -1, 1], [0, 0, 1, 0]),
        (np.array([0.0, 1, -1]), [0, 0, 1]),
        ([0.0, 1.0, NAN], [0, 0, 1]),
        (["cat", None, "dog", NAN], [0, 1, 0, 1]),
        (np.array(["cat", None, "dog"], dtype=object), [0, 1, 0]),
        (pd.Series(["cat", pd.NA, "dog"], dtype="string"), [0, 1, 0]),
        (pd.Series([1, 2, -1]), [0, 0, 1]),
        (np.array([1, 2, -1, None], dtype=object), [0, 0, 0, 1]),
        ([-1, 0, 1, NAN], [0, 0, 0, 1]),
        (pd.Series([-1, 0, 1, pd.NA], dtype="Int64"), [0, 0, 0, 1]),
        (np.array(["a", "b", -1], dtype=object), [0, 0, 1]),
        (["a", "b", -1, None], [0, 0, 1, 1]),
        (np.array(["a", "b", -1]), [0, 0, 1]),
        ([[1, 1], [-1, -1]], [0, 1]),
        ([[1.0, NAN], [-1.0, -1.0], [NAN, NAN]], [0, 1, 1]),
        ([[0, 1], [-1, -1], [1, 1], [-1, 0]], [0, 1, 0, 0]),
        ([[0.0, 1.0], [NAN, NAN]], [0, 1]),
        ([None, [0, 1], [1, 1], NAN, -1], [1, 0, 0, 1, 1]),
    ],
    ids=str,
)
def test_masked_classes_finds_masks(y, expected):
    found = masked_classes(y)
    assert found.dtype == bool and found.tolist() == [bool(e) for e in expected]


@pytest.mark.parametrize(
    "y",
    [
        [-1, 1, 1],
        [-2, -1, 0, 1],
        [0, 1, 2],
        [[-1], [1], [1]],
        ["-1", "0", "1"],
        ["-1", "a"],
        [True, False],
        [],
    ],
    ids=str,
)
def test_masked_classes_leaves_classes_alone(y):
    assert not masked_classes(y).any()


@pytest.mark.parametrize(
    ("y", "classes", "expected"),
    [
        ([0, -1], [0, 1, 2], [0, 1]),
        ([-1, 0, 1], [-1, 0, 1], [0, 0, 0]),
        ([0, NAN], [0, 1], [0, 1]),
        (["a", "-1"], ["a", "b"], [0, 1]),
    ],
    ids=str,
)
def test_masked_classes_goes_by_classes_that_are_known(y, classes, expected):
    assert masked_classes(y, classes).tolist() == [bool(e) for e in expected]


@pytest.mark.parametrize(
    ("y", "domain", "expected"),
    [
        ([0, 0, -1, 2], [1, 1, 1, -1], []),  # one of two classes
        ([0, 1, -1, 2, -1], [1, 1, 1, 1, -1], [2]),
        ([-1, 0, 1, None], [1, 1, 1, -1], []),
        (["a", "b", None, "a"], [1, 1, 1, -1], [2]),
        ([0, 1, 2, -1], [1, 1, 1, -1], []),
        ([-1, 1, 0], [1, 1, -1], []),
        (csr_array(np.eye(3)), [1, 1, -1], []),
    ],
    ids=str,
)
def test_find_masked_sources(y, domain, expected):
    is_target = np.array(domain) < 0
    assert find_masked_sources(y, is_target, masked_classes).tolist() == expected


def test_sparse_labels_have_no_masks():
    assert masked_classes(csr_array(np.eye(3))).tolist() == [False] * 3


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([1.5, NAN, -1.0], [False, True, False]),
        (np.array([[1, NAN], [NAN, NAN]]), [False, True]),
        ([1.5, None], [False, True]),
        ([[1.5, 2.0], None], [False, True]),
    ],
    ids=str,
)
def test_masked_numbers_finds_nan(y, expected):
    assert masked_numbers(y).tolist() == expected


def test_domains_go_before_masks():
    y, domain = [0, 1, -1, 2], [3, -2, 1, -7]
    found = find_targets(y, domain, masked_classes)
    assert found.tolist() == [False, True, False, True]
    assert find_targets(y, None, masked_classes).tolist() == [False, False, True, False]


def test_one_domain_is_that_of_all_samples():
    assert find_targets([0, 1], 1, masked_classes).tolist() == [False, False]


@pytest.mark.parametrize("domain", [[1, 0, -1], ["a", "b", "c"], [1, np.nan, 2]])
def test_domains_that_are_no_such_numbers_are_refused(domain):
    rule = "`sample_domain` must hold a number for each sample, positive for source "
    with pytest.raises(ValueError, match=rule + "domains and negative.* Got "):
        find_targets([0, 1, 2], domain, masked_classes)


@pytest.mark.parametrize("kind", [object, "Int64", float])
def test_domains_of_other_kinds(kind):
    domain = pd.Series([1, 2, -1], dtype=kind)
    assert find_targets([0, 1, 2], domain, masked_classes).tolist() == [0, 0, 1]


def test_error_names_the_domain_that_is_wrong():
    domain = np.where(np.arange(5000) == 4000, 0, 1)
    with pytest.raises(ValueError, match=r" Got 0 for sample 4000\.$"):
        find_targets(np.arange(5000), domain, masked_classes)
    with pytest.raises(ValueError, match=r" Got shape \(2, 1\)\.$"):
        find_targets([0, 1], [[1], [2]], masked_classes)


def test_domains_of_another_number_of_samples_are_refused():
    with pytest.raises(ValueError, match="a number for each sample. Got 2 for 3 samp"):
        find_targets([0, 1, 2], [1, -1], masked_classes)


@pytest.mark.parametrize("domain", [-1, None])
def test_target_alone_is_refused(domain):
    with pytest.raises(ValueError, match="`fit` needs labelled samples of a source "):
        find_targets([NAN, NAN], domain, masked_classes)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (np.array([4, 5, 6]), [5, 5, 6]),
        ([4, 5, 6], [5, 5, 6]),
        ([None, "cat", "dog"], ["cat", "cat", "dog"]),
        ([None, [1, 0], [1, 1]], [[1, 0], [1, 0], [1, 1]]),
        (np.array([[NAN, NAN], [1, 2], [3, 4]]), [[1, 2], [1, 2], [3, 4]]),
        (csr_array([[1, 1], [0, 1], [1, 0]]), [[0, 1], [0, 1], [1, 0]]),
    ],
    ids=str,
)
def test_hide_targets_puts_a_label_of_the_source(y, expected):
    before = y.copy()
    hidden = hide_targets(y, np.array([True, False, False]))
    assert hidden.dtype.kind != "O" and hidden.tolist() == expected
    same = y != before
    assert not (same.nnz if hasattr(same, "nnz") else isinstance(same, bool) and same)


def test_hide_targets_returns_labels_without_target_as_they_are():
    y = [1, 2]
    assert hide_targets(y, np.zeros(2, dtype=bool)) is y
