"""The meaning of the scores of a network: classes, labels or regression targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from sktransfer.model._module import UnitsOfY
from sktransfer.training import Probabilities
from sktransfer.utils import (
    check_array,
    check_classification_targets,
    column_or_1d,
    type_of_target,
    warn_caller,
)

_MOST_LISTED = 5  # labels in a message


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """Outputs of a model without a head: pooled activations.

    Attributes
    ----------
    stages : list of str
        Names of the boundaries whose features stand side by side, in this order.
    widths : list of int
        Number of features of each.
    """

    stages: list
    widths: list
    name = "features"
    classes = None


@dataclasses.dataclass(frozen=True, eq=False)
class ClassOutputs:
    """Scores of classes, one of which each sample has, or of multilabel targets.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        Sorted labels; for multilabel targets, the names of their columns if y is a data
        frame, and otherwise their positions.
    is_multilabel : bool
        Whether a sample may have several labels.
    """

    classes: np.ndarray
    is_multilabel: bool = False
    name = "probabilities"

    @classmethod
    def learn(cls, y: Any, classes: Any = None) -> ClassOutputs:
        """Find the classes of targets; `classes` are all of this and later calls."""
        _check_labels(y)
        if type_of_target(y).startswith("multilabel"):
            indicators = _dense(y)
            _warn_if_one_hot(indicators)
            columns = getattr(y, "columns", range(indicators.shape[1]))
            return cls(np.array([*columns]), is_multilabel=True)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return cls(np.unique(y if classes is None else classes))

    @property
    def n_outputs(self) -> int:
        """Number of scores per sample."""
        return len(self.classes)

    @property
    def kind(self) -> str:
        """Kind of the problem, "multiclass" or "multilabel"."""
        return "multilabel" if self.is_multilabel else "multiclass"

    def encode(self, y: Any) -> np.ndarray:
        """Return int64 codes of classes, or 0 and 1 in float32 for each label."""
        _check_labels(y)
        if self.is_multilabel:
            return _dense(y, self.n_outputs)
        y = column_or_1d(y)
        unknown = np.setdiff1d(y, self.classes)
        if len(unknown):
            raise ValueError(
                f"`y` holds labels that are not among the classes: "
                f"{unknown[:5].tolist()}. The classes are "
                f"{self.classes[:10].tolist()}."
            )
        return np.searchsorted(self.classes, y).astype(np.int64)

    def fitted_to(
        self, codes: np.ndarray, sample_weight: np.ndarray, *, is_partial: bool
    ) -> ClassOutputs:
        """Check that the samples have two classes, if later calls cannot add some."""
        _check_not_empty(codes)
        if is_partial and self.n_outputs > 1:
            return self
        if not self.is_multilabel and len(np.unique(codes)) < 2:
            raise ValueError(
                "`y` must have at least two classes among the samples that have "
                f"weight. Got one class: {self.classes.tolist()[codes[0]]!r}."
            )
        return self

    def to_tensor(self, codes: np.ndarray) -> torch.Tensor:
        """Return the codes as a tensor to train on."""
        return torch.from_numpy(codes)

    def strata(self, codes: np.ndarray) -> np.ndarray:
        """Return the stratum of each sample, for holding out samples."""
        return np.zeros(len(codes), dtype=int) if self.is_multilabel else codes

    def warn_of_unseen(self, y: Any) -> None:
        """Warn of classes that cannot be predicted, as in folds of sorted samples."""
        if not self.is_multilabel:
            _warn_of_unseen(np.asarray(y).ravel(), self.classes)

    def nonlinearity(self) -> Callable:
        """Return the function from scores to what a net predicts."""
        return Probabilities(self.is_multilabel)

    def last_layer(self) -> nn.Module:
        """Return the layer from scores to the output of an exported module."""
        return nn.Sigmoid() if self.is_multilabel else nn.Softmax(1)

    def quality(self, scores: torch.Tensor, y: torch.Tensor, loss: Callable) -> float:
        """Return the accuracy of scores."""
        if self.is_multilabel:
            return float(((scores > 0) == (y > 0)).float().mean())
        return float((scores.argmax(dim=1) == y).float().mean())

    def describe_quality(self, quality: float) -> str:
        """Return a quality in words."""
        return f"{quality:.0%} right"


@dataclasses.dataclass(frozen=True, eq=False)
class RegressionOutputs:
    """Standardised predictions of regression targets.

    Attributes
    ----------
    n_outputs : int
        Number of targets.
    is_flat : bool
        Whether there is one target, and no axis for it.
    mean, scale : ndarray of shape (n_outputs,) or None
        Mean and scale of the targets of the first training; None before it.
    """

    n_outputs: int
    is_flat: bool
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None
    name = "predictions"
    kind = "regression"
    classes = None
    is_multilabel = False

    @classmethod
    def learn(cls, y: Any) -> RegressionOutputs:
        """Count the targets."""
        y = check_array(
            y, dtype=np.float64, ensure_2d=False, input_name="y", ensure_min_samples=1
        )
        return cls(1 if y.ndim == 1 else y.shape[1], y.ndim == 1)

    def encode(self, y: Any) -> np.ndarray:
        """Return the targets, float64 of shape (n_samples, n_outputs)."""
        y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
        n_outputs = 1 if y.ndim == 1 else y.shape[1]
        if n_outputs != self.n_outputs:
            raise ValueError(
                f"`y` must have {self.n_outputs} target(s), as in the first `fit`. "
                f"Got {n_outputs}."
            )
        return np.ascontiguousarray(y.reshape(len(y), -1))

    def fitted_to(
        self, codes: np.ndarray, sample_weight: np.ndarray, *, is_partial: bool
    ) -> RegressionOutputs:
        """Learn the mean and the scale of the targets."""
        _check_not_empty(codes)
        # Squares of large or small targets are out of range: powers of two are exact.
        _, power = np.frexp(np.abs(codes).max(axis=0))
        small = np.ldexp(codes, -power)
        mean = np.average(small, axis=0, weights=sample_weight)
        variance = np.average((small - mean) ** 2, axis=0, weights=sample_weight)
        mean = np.ldexp(mean, power)
        scale = np.where(variance > 0, np.ldexp(np.sqrt(variance), power), 1.0)
        if is_partial and not variance.any():
            warn_caller(
                "All targets of the first call of `partial_fit` are equal, so "
                "later ones are not scaled. Start with samples whose targets differ."
            )
        return dataclasses.replace(self, mean=mean, scale=scale)

    def to_tensor(self, codes: np.ndarray) -> torch.Tensor:
        """Return standardised targets."""
        return torch.from_numpy((codes - self.mean) / self.scale).float()

    def strata(self, codes: np.ndarray) -> np.ndarray:
        """Return the stratum of each sample, for holding out samples."""
        return np.zeros(len(codes), dtype=int)

    def nonlinearity(self) -> Callable:
        """Return the function from scores to what a net predicts."""
        return nn.Identity()

    def last_layer(self) -> nn.Module:
        """Return the layer from scores to the output of an exported module."""
        return UnitsOfY(self.scale, self.mean, self.is_flat)

    def to_units(self, scores: np.ndarray) -> np.ndarray:
        """Return predictions in the units of the targets, float64."""
        predicted = scores * self.scale + self.mean
        return predicted[:, 0] if self.is_flat else predicted

    def quality(self, scores: torch.Tensor, y: torch.Tensor, loss: Callable) -> float:
        """Return one minus the ratio of the loss to that of the best constants."""
        n, least = len(y), torch.zeros(())
        for column in y.T:  # the best constant is the mean or one of the targets
            constants = torch.cat([column.mean()[None], column])
            pairs = (
                constants.repeat_interleave(n)[:, None],
                column.repeat(n + 1)[:, None],
            )
            least = least + loss(*pairs).reshape(n + 1, n).mean(dim=1).min()
        least = least / y.shape[1]
        return float(1 - loss(scores, y).mean() / least) if least > 0 else 0.0

    def describe_quality(self, quality: float) -> str:
        """Return a quality in words."""
        return f"{quality:.2f} of the loss explained"


def outputs_from_dict(values: dict) -> Features | ClassOutputs | RegressionOutputs:
    """Make outputs from the plain values of their attributes."""
    kinds = (Features, ClassOutputs, RegressionOutputs)
    for kind in kinds:
        if {field.name for field in dataclasses.fields(kind)} == values.keys():
            return kind(**values)
    raise ValueError(f"No outputs have the attributes {sorted(values)}.")


def _check_not_empty(codes):
    if not len(codes):
        raise ValueError("All samples have weight zero: there is nothing to fit.")


def _check_labels(y):
    """Raise an error if labels are missing, or cannot be sorted."""
    if hasattr(y, "toarray"):
        return
    is_array = hasattr(y, "__array__")
    labels = np.asarray(y) if is_array else pd.Series(list(y), dtype=object).to_numpy()
    has_rows = any(np.ndim(row) for row in labels[:1].tolist())
    if labels.dtype.kind not in "fO" or has_rows:
        return  # multilabel targets are checked later
    missing = ~np.isfinite(labels) if labels.dtype.kind == "f" else pd.isna(labels)
    rows = np.flatnonzero(missing.reshape(len(labels), -1).any(axis=1))
    if len(rows):
        raise ValueError(
            "Input y contains NaN or infinity, where labels must be. Got "
            f"{labels[rows].tolist()[0]!r} for sample {rows[0]}; drop the sample or "
            "give it a label."
        )
    _check_sortable(labels)


def _check_sortable(labels):
    try:
        np.unique(labels)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in labels.flat})
        if len(kinds) == 1:
            raise TypeError(
                f"`y` must hold labels that can be sorted. Got {kinds[0]}, which "
                "cannot; convert them, for example by `[str(label) for label in y]`."
            ) from error
        raise TypeError(
            f"`y` must hold labels of one kind. Got {' and '.join(kinds)}; convert "
            "them, for example by `[str(label) for label in y]`."
        ) from error


def _warn_of_unseen(labels, classes):
    is_unseen = ~np.isin(labels, classes)
    if not is_unseen.any():
        return
    names = np.unique(labels[is_unseen]).tolist()
    listed = ", ".join(map(repr, names[:_MOST_LISTED]))
    more = len(names) - _MOST_LISTED
    warn_caller(
        f"{is_unseen.sum():,} of {len(labels):,} samples have labels that were not in "
        f"`fit`, and count as wrong: {listed}{f' and {more} more' * (more > 0)}. If "
        "the samples are a fold, stratify the folds: pass y to the function that makes "
        "them, which for an `ImageFolder` is `X.targets`, or "
        "`cv=StratifiedKFold(shuffle=True)`."
    )


def _warn_if_one_hot(indicators):
    """Warn of multilabel targets that say which one class each sample has."""
    n_labels = indicators.shape[1]
    are_used = n_labels > 1 and indicators.any(axis=0).all()
    has_many = len(indicators) > n_labels and not indicators.all(axis=0).any()
    if are_used and has_many and (indicators.sum(axis=1) == 1).all():
        warn_caller(
            f"Each row of `y` has exactly one 1 in its {n_labels} columns, as one-hot "
            "classes do, but is taken for multilabel targets, whose labels are "
            "independent. For classes, pass `np.argmax(y, axis=1)`, or "
            "`y.idxmax(axis=1)` of a data frame."
        )


def _dense(y, n_labels=None):
    """Return multilabel targets, 0 and 1 in float32, of shape (n, k)."""
    y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
    if n_labels is not None and (y.ndim != 2 or y.shape[1] != n_labels):
        raise ValueError(
            f"`y` must have a column for each of the {n_labels} labels. Got shape "
            f"{y.shape}."
        )
    y = y.astype(np.float32)
    if not np.isin(y, [0, 1]).all():
        raise ValueError(
            "`y` with several labels per sample must hold 0 and 1 only. Got "
            f"{np.unique(y)[:5].tolist()}."
        )
    return y
