"""Which samples are source and which are target, and labels that nobody may see."""

from numbers import Real

import numpy as np
import pandas as pd

__all__ = [
    "find_masked_sources",
    "find_targets",
    "hide_targets",
    "masked_classes",
    "masked_numbers",
]

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
    domain = _as_numbers(np.asarray(sample_domain))
    if domain.ndim == 0:
        domain = np.full(n_samples, domain)
    is_number = domain.dtype.kind in "iuf"
    if not is_number or domain.ndim != 1 or not (abs(domain) > 0).all():
        raise ValueError(
            "`sample_domain` must hold a number for each sample, positive for source "
            f"domains and negative for target domains. Got {_what_is_wrong(domain)}."
        )
    if len(domain) != n_samples:
        raise ValueError(
            "`sample_domain` must hold a number for each sample. Got "
            f"{len(domain)} for {n_samples} samples."
        )
    return domain


def _as_numbers(values):
    """Return objects that all are numbers as such, and anything else as it is."""
    if values.dtype.kind != "O" or not all(isinstance(v, Real) for v in values.flat):
        return values
    return values.astype(np.float64)


def _what_is_wrong(domain):
    """Say in a few words why these are no domains."""
    if domain.ndim != 1:
        return f"shape {domain.shape}"
    is_number = [isinstance(v, Real) and abs(v) > 0 for v in domain.tolist()]
    row = is_number.index(False) if False in is_number else 0
    return f"{domain.tolist()[row]!r} for sample {row}"


def masked_classes(y, classes=None):
    """Find the labels that are masked: -1, None or NaN.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        -1 is a class where another label is None or NaN, labels below -1 are left, or
        fewer than two other classes. Among texts it never is, and the text "-1", which
        NumPy makes of it, is masked likewise unless all texts are numbers. Of
        independent labels, rows are masked whose entries all are, and -1 is no class.
    classes : array-like, default=None
        All classes, if they are known: then -1 is masked unless it is one of them.

    Returns
    -------
    ndarray of shape (n_samples,), bool
    """
    if hasattr(y, "toarray"):
        return np.zeros(y.shape[0], dtype=bool)
    values = _as_objects(y)
    missing = pd.isna(values)
    present = ~missing
    is_minus_one = np.zeros(values.shape, dtype=bool)
    is_minus_one[present] = [_is_mask(label) for label in values[present].tolist()]
    if not is_minus_one.any() or _are_rows(values):
        return _whole_rows(missing | is_minus_one)
    labels = values[present].tolist()
    if _may_be_masked(labels, bool(missing.any()), classes):
        missing |= is_minus_one
    return _whole_rows(missing)


def _are_rows(values):
    return values.ndim == 2 and values.shape[1] > 1


def _whole_rows(missing):
    return missing.all(axis=tuple(range(1, missing.ndim)))


def _is_mask(label):
    if isinstance(label, str):
        return label == str(_MASK)
    return isinstance(label, Real) and label == _MASK


def _is_missing(row):
    return np.ndim(row) == 0 and (pd.isna(row) or _is_mask(row))


def _may_be_masked(labels, has_missing, classes):
    """Whether -1, which is among the labels, can be no class."""
    others = {label for label in labels if not _is_mask(label)}
    has_text = any(isinstance(label, str) for label in others)
    if has_text and not all(isinstance(label, str) for label in labels):
        return True  # a number among texts
    if classes is not None:
        return not any(map(_is_mask, np.asarray(classes).tolist()))
    if has_missing or len(others) < 2:
        return False
    if has_text:
        return not all(map(_is_number, others))
    return all(isinstance(v, Real) for v in others) and min(others) > _MASK


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def find_masked_sources(y, is_target, find_masked):
    """Find the samples of source domains whose label is masked.

    Parameters
    ----------
    y : array-like of shape (n_samples, ...)
        Of targets, it is looked at which labels are None or NaN alone.
    is_target : ndarray of shape (n_samples,), bool
        Not all.
    find_masked : callable
        From y to a mask of the labels that are missing.

    Returns
    -------
    ndarray of shape (n_masked,), int
        Indices of samples.
    """
    if hasattr(y, "toarray"):
        return np.array([], dtype=int)
    values = np.array(_as_objects(y))
    known = is_target & ~_whole_rows(pd.isna(values))
    values[known] = values[np.flatnonzero(~is_target)[0]]
    return np.flatnonzero(find_masked(values) & ~is_target)


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
    widths = {len(row) for row in rows if np.ndim(row)}
    if not widths:
        return pd.Series(rows, dtype=object).to_numpy()
    blank = [None] * max(widths)  # what a single mask is short for
    return np.asarray([blank if _is_missing(row) else row for row in rows])


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
