"""Separate the samples of the source and of the target, and find masked labels."""

from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sktransfer.inputs import select_rows
from sktransfer.utils import check_consistent_length, check_sample_weight

_MASK = -1  # of classes, as in skada


class Domains(NamedTuple):
    """The samples of a fit by domain.

    `X`, `y` and `sample_weight` belong to the source. `X_target` is None if there is no
    target. `source` and `target` are indices of samples in the X of the user, without
    source samples whose weight is 0.
    """

    X: Any
    y: Any
    sample_weight: Any
    X_target: Any
    source: np.ndarray
    target: np.ndarray


def split_domains(
    X: Any, y: Any, sample_weight: Any, sample_domain: Any, find_masked: Callable
) -> Domains:
    """Separate source and target samples, and drop the labels of the target.

    `sample_domain` is positive for source domains and negative for target domains; an
    int is the domain of all samples. By default, the target consists of the samples
    whose labels `find_masked` finds masked. Without y there is no target.
    """
    none = np.arange(0)
    if y is None:
        return Domains(X, y, sample_weight, None, none, none)
    is_target = _find_targets(y, sample_domain, find_masked)
    if sample_domain is not None:
        _refuse_masked_sources(y, is_target, find_masked)
    if not is_target.any():
        return Domains(X, y, sample_weight, None, np.arange(len(is_target)), none)
    check_consistent_length(X, is_target)
    source, target = np.flatnonzero(~is_target), np.flatnonzero(is_target)
    weight = sample_weight
    if weight is not None:
        weight = check_sample_weight(
            weight, is_target, dtype=np.float64, ensure_non_negative=True
        )[source]
    return Domains(
        select_rows(X, source),
        _take_labels(y, source),
        weight,
        select_rows(X, target),
        source if weight is None else source[weight > 0],
        target,
    )


def drop_masked(
    X: Any, y: Any, sample_weight: Any, is_masked: np.ndarray
) -> tuple[Any, Any, Any]:
    """Return the samples, labels and weights to score, without those that are masked.

    Raises a ValueError if all are.
    """
    if not is_masked.any():
        return X, y, sample_weight
    check_consistent_length(X, is_masked)
    if is_masked.all():
        raise ValueError(
            f"`score` needs labels. Those of all {len(is_masked)} samples are masked: "
            "give some that are known, or set `scoring` to one that needs none, such "
            "as `skada.metrics.PredictionEntropyScorer()`."
        )
    rows = np.flatnonzero(~is_masked)
    if sample_weight is not None:
        sample_weight = check_sample_weight(sample_weight, is_masked)[rows]
    return select_rows(X, rows), _take_labels(y, rows), sample_weight


def _take_labels(y, rows):
    """Return labels of samples; objects of one type become an array of its dtype."""
    if hasattr(y, "toarray"):
        return y.tocsr()[rows]
    values = _as_objects(y)[rows]
    return np.array(values.tolist()) if values.dtype.kind == "O" else values


def _find_targets(y, sample_domain, find_masked):
    """Return a boolean mask of target samples; an error if there are no others."""
    if sample_domain is None:
        is_target = find_masked(y)
    else:
        n_samples = y.shape[0] if hasattr(y, "shape") else len(y)
        is_target = _check_domain(sample_domain, n_samples) < 0
    if len(is_target) and is_target.all():
        raise ValueError(
            "`fit` needs labelled samples of a source domain. Got target samples "
            "alone: none has a label, or no `sample_domain` is positive."
        )
    return is_target


def _check_domain(sample_domain, n_samples):
    domain = np.asarray(sample_domain)
    if domain.dtype.kind == "O" and all(isinstance(v, Real) for v in domain.flat):
        domain = domain.astype(np.float64)
    if domain.ndim == 0:
        domain = np.full(n_samples, domain)
    is_number = domain.dtype.kind in "iuf"
    if not is_number or domain.ndim != 1 or not (abs(domain) > 0).all():
        raise ValueError(
            "`sample_domain` must hold a number for each sample, positive for source "
            f"domains and negative for target domains. Got {_first_wrong(domain)}."
        )
    if len(domain) != n_samples:
        raise ValueError(
            "`sample_domain` must hold a number for each sample. Got "
            f"{len(domain)} for {n_samples} samples."
        )
    return domain


def _first_wrong(domain):
    if domain.ndim != 1:
        return f"shape {domain.shape}"
    values = domain.tolist()
    is_domain = [isinstance(v, Real) and abs(v) > 0 for v in values]
    row = is_domain.index(False) if False in is_domain else 0
    return f"{values[row]!r} for sample {row}"


def _refuse_masked_sources(y, is_target, find_masked):
    """Raise if a source sample has a mask in place of a label."""
    if hasattr(y, "toarray"):
        return
    values = np.array(_as_objects(y))
    # Whether -1 is a mask depends on which target labels are missing, but must not
    # depend on their values.
    known = is_target & ~_whole_rows(pd.isna(values))
    if known.any():
        values[known] = values[np.flatnonzero(~is_target)[0]]
    rows = np.flatnonzero(find_masked(values) & ~is_target)
    if len(rows):
        raise ValueError(
            "Samples with a positive `sample_domain` must have a label. Got a masked "
            f"one for {name_rows(rows)}: leave them out, or make their domain "
            "negative. If -1 is a class, mask the labels of the target by None."
        )


def name_rows(rows: np.ndarray) -> str:
    """Describe samples by their indices, for a message."""
    some = ", ".join(map(str, rows[:5].tolist()))
    more = ", ..." if len(rows) > 5 else ""
    return f"sample {some}" if len(rows) == 1 else f"{len(rows)} samples ({some}{more})"


# Masked labels


def masked_targets(y: Any) -> np.ndarray:
    """Find masked regression targets: rows whose entries are all NaN."""
    return _whole_rows(pd.isna(_as_objects(y)))


def masked_classes(y: Any, classes: Any = None) -> np.ndarray:
    """Find masked labels: -1, None or NaN.

    -1 is a class if another label is None or NaN, if there are labels below -1, or if
    there are fewer than two other classes. Among strings, -1 is always a mask, and so
    is the string "-1", to which NumPy converts it, unless all strings are numbers. In
    multilabel y, a row is masked if all its entries are. If all `classes` are known, -1
    is a mask unless it is one of them.
    """
    if hasattr(y, "toarray"):
        return np.zeros(y.shape[0], dtype=bool)
    values = _as_objects(y)
    missing = pd.isna(values)
    present = ~missing
    is_minus_one = np.zeros(values.shape, dtype=bool)
    is_minus_one[present] = [_is_mask(label) for label in values[present].tolist()]
    is_multilabel = values.ndim == 2 and values.shape[1] > 1
    if not is_minus_one.any() or is_multilabel:
        return _whole_rows(missing | is_minus_one)
    if _is_minus_one_masked(values[present].tolist(), bool(missing.any()), classes):
        missing |= is_minus_one
    return _whole_rows(missing)


def _whole_rows(missing):
    return missing.all(axis=tuple(range(1, missing.ndim)))


def _is_mask(label):
    if isinstance(label, str):
        return label == str(_MASK)
    return isinstance(label, Real) and label == _MASK


def _is_minus_one_masked(labels, has_missing, classes):
    """Whether -1, which is one of the labels, is a mask."""
    others = {label for label in labels if not _is_mask(label)}
    has_text = any(isinstance(label, str) for label in others)
    if has_text and not all(isinstance(label, str) for label in labels):
        return True  # a number among strings
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


def _as_objects(y):
    """Return labels as an array that keeps None and NaN beside strings."""
    if hasattr(y, "__array__"):
        return np.asarray(y)
    rows = list(y)
    widths = {len(row) for row in rows if np.ndim(row)}
    if not widths:
        return pd.Series(rows, dtype=object).to_numpy()
    blank = [None] * max(widths)  # a single mask may stand for a row of them
    is_blank = [np.ndim(row) == 0 and (pd.isna(row) or _is_mask(row)) for row in rows]
    pairs = zip(rows, is_blank, strict=True)
    return np.asarray([blank if masked else row for row, masked in pairs])
