"""What each distinct sample weighs."""

import math

import numpy as np

from sktransfer.utils import compute_class_weight

__all__ = ["merge_equal", "weigh_classes"]


def weigh_classes(class_weight, y, sample_weight, classes=None):
    """Multiply the weights of samples by those of their classes.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        "balanced" gives all classes the same total weight and leaves the sum of the
        weights as it is.
    y : ndarray of shape (n_samples,)
        Labels.
    sample_weight : ndarray of shape (n_samples,)
    classes : ndarray of shape (n_classes,), default=None
        Labels that there are, in order, whether y has them or not; by default y's.

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    if class_weight is None:
        return sample_weight
    classes = np.unique(y) if classes is None else classes
    codes = np.searchsorted(classes, y)
    if class_weight != "balanced":
        by_class = compute_class_weight(class_weight, classes=classes, y=y)
        return sample_weight * by_class[codes]
    totals = np.bincount(codes, sample_weight, minlength=len(classes))
    share = sample_weight.sum() / max(1, np.count_nonzero(totals))
    return sample_weight * share / np.where(totals, totals, 1.0)[codes]


def merge_equal(digests, y, sample_weight):
    """Find the distinct samples that have weight.

    Equal samples with equal labels become one that weighs as much as they do together.
    So a sample of weight two is that sample twice, and one of weight zero is not there;
    minibatches drawn by position would tell them apart.

    Parameters
    ----------
    digests : list of bytes
        What tells samples apart.
    y : ndarray of shape (n_samples,)
        Labels in [0, n_classes).
    sample_weight : ndarray of shape (n_samples,)

    Returns
    -------
    indices : ndarray of shape (n_distinct,)
        Of the first of each, in an order that does not depend on theirs.
    weights : ndarray of shape (n_distinct,)
    """
    groups = {}
    for i in np.flatnonzero(sample_weight):
        groups.setdefault((digests[i], y[i]), []).append(i)
    ordered = [groups[key] for key in sorted(groups)]
    # `fsum` rounds once, so the order of the terms does not matter.
    weights = [math.fsum(sample_weight[group]) for group in ordered]
    return np.array([group[0] for group in ordered], dtype=int), np.array(weights)
