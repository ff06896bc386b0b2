import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from sktransfer.adaptation._domains import (
    masked_classes,
    masked_targets,
    name_rows,
    split_domains,
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
def test_masked_classes_uses_known_classes(y, classes, expected):
    assert masked_classes(y, classes).tolist() == [bool(e) for e in expected]


def split(y, domain=None, X=None, weight=None):
    n = y.shape[0] if hasattr(y, "shape") else len(y)
    X = np.arange(n) if X is None else X
    return split_domains(X, y, weight, domain, masked_classes)


@pytest.mark.parametrize(
    ("y", "domain", "masked"),
    [
        ([0, 0, -1, 2], [1, 1, 1, -1], None),  # one of two classes
        ([0, 1, -1, 2, -1], [1, 1, 1, 1, -1], "sample 2"),
        ([-1, 0, 1, None], [1, 1, 1, -1], None),
        (["a", "b", None, "a"], [1, 1, 1, -1], "sample 2"),
        ([0, 1, None, None, -1], [1, 1, 1, 1, -1], r"2 samples \(2, 3\)"),
        ([0, 1, 2, -1], [1, 1, 1, -1], None),
        ([-1, 1, 0], [1, 1, -1], None),
        (csr_array(np.eye(3)), [1, 1, -1], None),
    ],
    ids=str,
)
def test_masked_labels_of_the_source_are_refused(y, domain, masked):
    if masked is None:
        assert len(split(y, domain).source) == sum(d > 0 for d in domain)
        return
    message = rf"must have a label\. Got a masked one for {masked}: leave them out, or"
    with pytest.raises(ValueError, match=message):
        split(y, domain)


def test_names_of_many_rows_are_abbreviated():
    assert name_rows(np.arange(6)) == "6 samples (0, 1, 2, 3, 4, ...)"


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
def test_masked_targets_finds_nan(y, expected):
    assert masked_targets(y).tolist() == expected


def test_domains_take_precedence_over_masks():
    assert split([0, -1, 5, 2], [3, -2, 1, -7]).target.tolist() == [1, 3]
    assert split([0, 1, -1, 2]).target.tolist() == [2]
    assert split([0, 1], 1).X_target is None
    assert split_domains([3], None, None, 1, masked_classes).y is None


@pytest.mark.parametrize("kind", [object, "Int64", float])
def test_domains_of_other_types(kind):
    domain = pd.Series([1, 2, -1], dtype=kind)
    assert split([0, 1, 2], domain).target.tolist() == [2]


@pytest.mark.parametrize("domain", [[1, 0, -1], ["a", "b", "c"], [1, np.nan, 2]])
def test_domains_that_are_not_nonzero_numbers_raise(domain):
    rule = "`sample_domain` must hold a number for each sample, positive for source "
    with pytest.raises(ValueError, match=rule + "domains and negative.* Got "):
        split([0, 1, 2], domain)


def test_error_names_the_domain_that_is_wrong():
    domain = np.where(np.arange(5000) == 4000, 0, 1)
    with pytest.raises(ValueError, match=r" Got 0 for sample 4000\.$"):
        split(np.arange(5000), domain)
    with pytest.raises(ValueError, match=r" Got shape \(2, 1\)\.$"):
        split([0, 1], [[1], [2]])
    with pytest.raises(ValueError, match="a number for each sample. Got 2 for 3 samp"):
        split([0, 1, 2], [1, -1])


@pytest.mark.parametrize("domain", [-1, None])
def test_target_alone_is_refused(domain):
    with pytest.raises(ValueError, match="`fit` needs labelled samples of a source "):
        split([NAN, NAN], domain)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (np.array([4, 5, 6]), [5, 6]),
        ([4, 5, 6], [5, 6]),
        ([None, "cat", "dog"], ["cat", "dog"]),
        ([None, [1, 0], [1, 1]], [[1, 0], [1, 1]]),
        (np.array([[NAN, NAN], [1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (csr_array([[1, 1], [0, 1], [1, 0]]), [[0, 1], [1, 0]]),
    ],
    ids=str,
)
def test_labels_of_the_target_are_dropped(y, expected):
    found = split(y, [-1, 1, 1]).y
    found = found.toarray() if hasattr(found, "toarray") else found
    assert found.dtype.kind != "O" and found.tolist() == expected


def test_samples_and_weights_are_separated():
    found = split([0, -1, 1, -1, 2, 1], weight=[1, 5, 0, 5, 2, 3])
    assert found.X.tolist() == [0, 2, 4, 5] and found.X_target.tolist() == [1, 3]
    assert found.sample_weight.tolist() == [1, 0, 2, 3]
    assert found.source.tolist() == [0, 4, 5]  # of those with a weight


def test_samples_without_target_are_passed_on_as_they_are():
    X, y = [[1], [2]], [1, 2]
    found = split(y, X=X, weight="none")
    assert found.X is X and found.y is y and found.sample_weight == "none"
    assert found.X_target is None and found.source.tolist() == [0, 1]
