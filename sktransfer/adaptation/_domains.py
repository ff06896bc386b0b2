"""Which samples are source and which are target, and labels that nobody may see."""

from numbers import Real

import numpy as np
import pandas as pd

__all__ = ["find_targets", "hide_targets", "masked_classes", "masked_numbers"]

_MASK = -1  # of classes, as skada has it


def find_targets(y, sample_domain, find_masked):
    """Find the samples of target domains.

    Parameters
    ----------
    y : array-like of shape (n_samples, ...)
    sample_domain : array-like of shape (n_samples,), int or None
        Positive for source domains, negative for target domains; an int is all
        samples'. None goes by the labels.
    find_masked : callable
        From y to a mask of the labels that are missing.

    Returns
    -------
    ndarray of shape (n_samples,), bool

    Raises
    ------
    ValueError
        If domains are no such numbers or not one a sample, or no sample is source.
    """
    if sample_domain is None:
        is_target = find_masked(y)
    else:
        is_target = _check_domain(sample_domain, _count(y)) < 0
    if len(is_target) and is_target.all():
        raise ValueError(
            "`fit` needs labelled samples of a source domain. Got target samples "
            "alone: none has a label, or no `sample_domain` is positive."
        )
    return is_target


def _count(y):
    return y.shape[0] if hasattr(y, "shape") else len(y)


def _check_domain(sample_domain, n_samples):
    domain = np.asarray(sample_domain)
    if domain.ndim == 0:
        domain = np.full(n_samples, domain)
    is_number = domain.dtype.kind in "iuf"
    if not is_number or domain.ndim != 1 or not (abs(domain) > 0).all():
        raise ValueError(
            "`sample_domain` must hold a number for each sample, positive for source "
            f"domains and negative for target domains. Got {sample_domain!r}."
        )
    if len(domain) != n_samples:
        raise ValueError(
            "`sample_domain` must hold a number for each sample. Got "
            f"{len(domain)} for {n_samples} samples."
        )
    return domain


def masked_classes(y):
    """Find the labels that are masked: -1, None or NaN.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        Where labels below -1 or fewer than two other classes are left, -1 is a class.
        Of independent labels, rows are masked whose entries all are.

    Returns
    -------
    ndarray of shape (n_samples,), bool
    """
    if hasattr(y, "toarray"):
        return np.zeros(y.shape[0], dtype=bool)
    values = _as_objects(y)
    missing = pd.isna(values)
    if values.dtype.kind in "iufO":
        present = ~missing
        missing[present] = _is_minus_one(values[present])
    return _whole_rows(missing)


def _whole_rows(missing):
    return missing.all(axis=tuple(range(1, missing.ndim)))


def _is_minus_one(labels):
    """Find -1 where it can be no class."""
    if labels.dtype.kind == "O" and not all(isinstance(v, Real) for v in labels):
        return np.zeros(labels.shape, dtype=bool)
    classes = np.unique(labels)
    return (labels == _MASK) & (len(classes) > 2 and classes[0] == _MASK)


def masked_numbers(y):
    """Find the targets of a regression that are masked: NaN.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)

    Returns
    -------
    ndarray of shape (n_samples,), bool
        Rows whose entries are all NaN.
    """
    return _whole_rows(pd.isna(_as_objects(y)))


def _as_objects(y):
    """Return labels as an array that keeps None and NaN beside texts."""
    if hasattr(y, "__array__"):
        return np.asarray(y)
    rows = list(y)
    if any(np.ndim(row) for row in rows[:1]):
        return np.asarray(rows)
    return pd.Series(rows, dtype=object).to_numpy()


def hide_targets(y, is_target):
    """Put a label of the source in the place of those of targets.

    Parameters
    ----------
    y : array-like of shape (n_samples, ...)
    is_target : ndarray of shape (n_samples,), bool
        Not all.

    Returns
    -------
    array-like
        A copy that says nothing of targets; y itself if there are none.
    """
    if not is_target.any():
        return y
    sparse = hasattr(y, "toarray")
    values = np.array(y.toarray() if sparse else _as_objects(y))
    values[is_target] = values[np.flatnonzero(~is_target)[0]]
    if values.dtype.kind == "O":
        return np.array(values.tolist())
    return values
