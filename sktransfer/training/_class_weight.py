"""Weights of classes, as weights of samples, and weights of multilabel targets."""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np

from sktransfer.utils import compute_class_weight


def weigh_classes(
    class_weight: Mapping | str | None,
    y: np.ndarray,
    sample_weight: np.ndarray,
    classes: np.ndarray | None = None,
) -> np.ndarray:
    """Multiply the weights of samples (n,) by the weights of their classes.

    "balanced" gives all classes the same total weight and keeps the sum of the weights.
    `classes` are all labels, sorted; by default those in y.
    """
    if class_weight is None:
        return sample_weight
    if not isinstance(class_weight, Mapping | str):
        raise ValueError(
            "`class_weight` must be a dict of the weights of classes, 'balanced' or "
            f"None. Got {class_weight!r}; a list is for multilabel targets, which have "
            "one column per label."
        )
    classes = np.unique(y) if classes is None else classes
    codes = np.searchsorted(classes, y)
    if class_weight != "balanced":
        by_class = compute_class_weight(class_weight, classes=classes, y=y)
        _check_finite(class_weight, by_class)
        return sample_weight * by_class[codes]
    # scikit-learn's "balanced" counts samples and disregards their weights.
    totals = np.bincount(codes, sample_weight, minlength=len(classes))
    share = sample_weight.sum() / max(1, np.count_nonzero(totals))
    return sample_weight * share / np.where(totals, totals, 1.0)[codes]


def _check_finite(class_weight, by_class):
    """Raise an error if a weight of a class is negative, infinite or no number."""
    if not (np.isfinite(by_class) & (by_class >= 0)).all():
        raise ValueError(
            f"`class_weight` must hold finite numbers that are not negative. Got "
            f"{class_weight!r}."
        )


def weigh_labels(
    class_weight: Mapping | Sequence | str,
    Y: np.ndarray,
    sample_weight: np.ndarray,
    labels: np.ndarray,
) -> np.ndarray:
    """Return the weights of the zeros and of the ones of each label (2, n_labels).

    Y holds 0 and 1, of shape (n, n_labels), and `sample_weight` has the shape (n,).
    "balanced" gives the zeros and the ones of a label the same total weight and keeps
    their sum; a label with a single value keeps its weights. A mapping has the weights
    of the ones by label, and a sequence has a mapping of 0 and 1 for each label. What
    they leave out weighs 1.
    """
    if isinstance(class_weight, str):
        return _balance(Y, sample_weight)
    if isinstance(class_weight, Mapping):
        _check_keys(class_weight, labels.tolist(), "")
        of_labels = [{1: class_weight.get(label, 1.0)} for label in labels.tolist()]
    else:
        of_labels = _check_list(class_weight, labels)
    weight = np.array([[w.get(0, 1.0), w.get(1, 1.0)] for w in of_labels], dtype=object)
    if not all(isinstance(w, Real) and 0 < float(w) < np.inf for w in weight.flat):
        raise ValueError(
            "`class_weight` must hold positive, finite numbers for multilabel targets. "
            f"Got {class_weight!r}; leave a sample out by a `sample_weight` of 0."
        )
    return weight.astype(np.float64).T


def weights_of_values(label_weight: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Return the weight of each entry of Y, of shape (n, n_labels)."""
    return np.where(Y > 0, label_weight[1], label_weight[0])


def _balance(Y, sample_weight):
    totals = np.stack([sample_weight @ (1.0 - Y), sample_weight @ Y])  # (2, n_labels)
    is_varied = (totals > 0).all(axis=0)
    halves = np.broadcast_to(sample_weight.sum() / 2, totals.shape)
    return np.divide(halves, totals, out=np.ones_like(totals), where=is_varied)


def _check_list(class_weight, labels):
    """Return the mappings of the labels if there is a valid one for each."""
    is_valid = all(isinstance(weights, Mapping) for weights in class_weight)
    if not is_valid or len(class_weight) != len(labels):
        raise ValueError(
            "`class_weight` as a list must hold a dict {0: weight, 1: weight} for each "
            f"of the {len(labels)} labels, in the order of the columns of `y`. Got "
            f"{class_weight!r}."
        )
    for i, weights in enumerate(class_weight):
        _check_keys(weights, [0, 1], f"[{i}]")
    return class_weight


def _check_keys(weights, known, where):
    """Raise an error if there are weights of unknown labels, or of unknown values."""
    unknown = [key for key in weights if key not in known]
    if unknown:
        what = "0 and 1" if where else f"the labels of `y`, which are {known[:10]}"
        raise ValueError(
            f"`class_weight{where}` must have no other keys than {what}. Got "
            f"{unknown[:5]}; for multilabel targets, use {{label: weight of its ones}} "
            "or a list with {0: weight, 1: weight} for each label."
        )
