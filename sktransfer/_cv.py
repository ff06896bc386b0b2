"""Base of the estimators that choose the depth and the penalty by cross-validation."""

from __future__ import annotations

import inspect
import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    MetaEstimatorMixin,
    TransformerMixin,
    clone,
    is_classifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.metrics import check_scoring
from sklearn.model_selection import ParameterGrid, check_cv
from sklearn.utils import get_tags
from sklearn.utils.parallel import Parallel, delayed

from sktransfer._base import backbone_of, restore_on_error
from sktransfer._fine_tuned import FineTunedEstimator
from sktransfer.backbones import modality_for
from sktransfer.fitting import Evaluation, evaluate_candidates, order, search_results
from sktransfer.inputs import labels_of, select_rows, to_numpy
from sktransfer.model import ExportedModule
from sktransfer.utils import (
    Interval,
    TransferWarning,
    check_consistent_length,
    check_sample_weight,
    types,
)


class _Samples(NamedTuple):
    """Raw samples, targets and weights, of which the last may be None."""

    X: Any
    y: Any
    weight: np.ndarray | None

    def take(self, rows: np.ndarray) -> _Samples:
        """Return some of the samples."""
        weight = None if self.weight is None else self.weight[rows]
        return _Samples(select_rows(self.X, rows), select_rows(self.y, rows), weight)


class FineTunedSearch(TransformerMixin, MetaEstimatorMixin, BaseEstimator, ABC):
    """Base of the estimators that choose the depth and the penalty.

    A subclass defines `_default`, which makes the default estimator, and the values of
    the penalty.
    """

    _parameter_constraints: ClassVar[dict] = {
        "freeze": [Integral, Interval(Real, 0, 1, closed="neither"), str, "array-like"],
        "cv": ["cv_object"],
        "scoring": [str, callable, None],
        "refit": ["boolean"],
        "halving": ["boolean"],
        "n_jobs": [Integral, None],
    }
    _default: ClassVar[type[FineTunedEstimator]]

    def _inner_estimator(self):
        return self._default() if self.estimator is None else self.estimator

    def __sklearn_tags__(self):
        tags, inner = super().__sklearn_tags__(), get_tags(self._inner_estimator())
        tags.input_tags, tags.target_tags = inner.input_tags, inner.target_tags
        tags.classifier_tags = inner.classifier_tags
        tags.regressor_tags = inner.regressor_tags
        tags.transformer_tags = inner.transformer_tags
        tags.array_api_support = inner.array_api_support
        tags.non_deterministic = inner.non_deterministic
        return tags

    @abstractmethod
    def _penalties(self):
        """Return the values of the penalty by the name of the parameter (dict)."""

    @abstractmethod
    def _precedence(self, candidate):
        """Return a key that sorts candidates with equal scores."""

    @restore_on_error
    def fit(
        self,
        X: types.Samples,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Score the candidates by cross-validation, and fit the best to all samples.

        Parameters
        ----------
        X : array-like of n_samples
            File paths, images, encoded bytes, arrays, flat rows, a one-column
            DataFrame or a Dataset; see the user guide.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Labels or regression targets. By default those of X, if it is a Dataset with
            labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights in the trainings and, where the scorer takes them, in the scores. By
            default all samples weigh the same.
        groups : array-like of shape (n_samples,), default=None
            Groups of samples for a splitter that needs them, such as
            :class:`sklearn.model_selection.GroupKFold`.

        Returns
        -------
        self : FineTunedClassifierCV or FineTunedRegressorCV

        Raises
        ------
        ValueError
            If there are no candidates, or a training raises the error, to which a note
            is added that names the candidate and the fold.
        """
        self._validate_params()
        estimator, candidates = self._inner_estimator(), self._candidates()
        _check_samples(estimator, X, y)
        data = _collect(X, y, sample_weight)
        cv = check_cv(self.cv, data.y, classifier=is_classifier(self))
        folds = _folds(cv, data, groups)
        scorer = check_scoring(estimator, self.scoring)
        evaluate = _Evaluate(estimator, candidates, data, folds, scorer, self.n_jobs)
        precedence = [*map(self._precedence, candidates)]
        results = evaluate_candidates(
            len(candidates), len(folds), evaluate, precedence, halving=self.halving
        )
        best = order(results, precedence)[0]
        self._fit_best(estimator, candidates, best, data)
        self.cv_results_ = search_results(candidates, results)
        self.best_index_, self.best_params_ = best, candidates[best]
        self.best_score_ = float(self.cv_results_["mean_test_score"][best])
        self.scorer_, self.n_splits_ = scorer, len(folds)
        return self

    def _fit_best(self, estimator, candidates, best, data):
        """Fit the best candidate to all samples, if it is asked for."""
        for name in ("best_estimator_", "refit_time_"):
            vars(self).pop(name, None)
        if not self.refit:
            return
        began = time.perf_counter()
        chosen = clone(estimator).set_params(**candidates[best])
        with warnings.catch_warnings():
            if any(c["freeze"] != chosen.freeze for c in candidates):
                # What has no effect at this depth has one at others.
                text = ".* ha(s|ve) no effect"
                warnings.filterwarnings("ignore", text, TransferWarning)
            self.best_estimator_ = chosen.fit(*data)
        self.refit_time_ = time.perf_counter() - began

    def _candidates(self):
        """Return the parameters of all candidates (list of dict)."""
        grid = {"freeze": _as_list("freeze", self.freeze)}
        for name, values in self._penalties().items():
            if values is not None:
                grid[name] = _as_list(name, values)
        return [*ParameterGrid(grid)]

    def __sklearn_is_fitted__(self):
        return hasattr(self, "cv_results_")

    def __getattr__(self, name):
        """Return a fitted attribute of the best estimator, such as ``history_``."""
        best = vars(self).get("best_estimator_")
        if best is None or name.startswith("_") or not name.endswith("_"):
            kind = type(self).__name__
            raise AttributeError(f"{kind!r} object has no attribute {name!r}")
        return getattr(best, name)

    def _best(self):
        """Return the best estimator, which was fitted to all samples."""
        best = vars(self).get("best_estimator_")
        if best is not None:
            return best
        why = "is not fitted yet. Call `fit` first"
        if self.__sklearn_is_fitted__():
            why = "has chosen parameters alone. Set `refit=True`, and `fit` again"
        raise NotFittedError(f"This {type(self).__name__} {why}.")

    def predict(self, X: types.Samples) -> np.ndarray:
        """Predict with the best estimator.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._best().predict(X)

    def score(
        self,
        X: types.Samples,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Score the best estimator as `scoring` says.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.

        Returns
        -------
        float
            By default the accuracy or, for regression, the coefficient of
            determination.
        """
        best = self._best()
        return _score(self.scorer_, best, *_collect(X, y, sample_weight))

    def transform(self, X: types.Samples) -> NDArray[np.float32]:
        """Compute the features that the head of the best estimator sees.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32
        """
        return self._best().transform(X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features; see the inner estimator.

        Parameters
        ----------
        input_features : object, default=None
            Ignored.

        Returns
        -------
        ndarray of str
        """
        return self._best().get_feature_names_out(input_features)

    def to_torch(self) -> ExportedModule:
        """Return the best model as a torch module; see the inner estimator.

        Returns
        -------
        torch.nn.Module
        """
        return self._best().to_torch()

    def to_onnx(
        self, path: str | os.PathLike, *, image_size: types.ImageSize | None = None
    ) -> Path:
        """Write the best model to an ONNX file; see the inner estimator.

        Parameters
        ----------
        path : str or os.PathLike
            File to write, in a folder that exists.
        image_size : int or (int, int), default=None
            Height and width of the raw images that the file takes, in pixels.

        Returns
        -------
        pathlib.Path
        """
        return self._best().to_onnx(path, image_size=image_size)


def _as_list(name, values):
    """Return the values of a parameter as a list; a single value is one."""
    is_single = isinstance(values, str) or not isinstance(values, Iterable)
    found = [values] if is_single else [*values]
    if not found:
        raise ValueError(f"`{name}` must hold at least one value. Got {values!r}.")
    return found


def _check_samples(estimator, X, y):
    """Raise the errors of `fit` that concern all samples, before any is left out."""
    names = ("image_size", "image_shape", "value_range")
    options = {name: getattr(estimator, name) for name in names}
    modality = modality_for(X, backbone_of(estimator.backbone), options)
    modality.validate_with_y(clone(estimator), X, y)


def _folds(cv, data, groups):
    """Return pairs of the positions of training and held-out samples."""
    positions = np.arange(_n_samples(data.y))
    pairs = cv.split(data.X, data.y, groups)
    folds = [tuple(positions[np.asarray(rows)] for rows in pair) for pair in pairs]
    if not folds:
        raise ValueError("`cv` must give at least one split. Got none.")
    return folds


def _collect(X, y, sample_weight):
    """Return samples whose targets and weights can be indexed (_Samples)."""
    y = labels_of(X) if y is None else y
    if y is None:
        raise ValueError(
            "`y` is needed, as the samples are no Dataset with labels. The estimator "
            "requires y to be passed, but the target y is None."
        )
    is_tensor = isinstance(y, torch.Tensor)
    y = to_numpy(y) if is_tensor or not hasattr(y, "__getitem__") else y
    check_consistent_length(X, y)
    if sample_weight is None:
        return _Samples(X, y, None)
    weight = check_sample_weight(
        sample_weight, np.empty(_n_samples(y)), ensure_non_negative=True
    )
    return _Samples(X, y, weight)


def _n_samples(y):
    return y.shape[0] if hasattr(y, "shape") else len(y)


@dataclass(frozen=True)
class _Evaluate:
    """Evaluation of pairs of a candidate and a fold, in one process or several."""

    estimator: FineTunedEstimator
    candidates: list
    data: _Samples
    folds: list
    scorer: Callable
    n_jobs: int | None

    def __call__(self, pairs: Sequence[tuple[int, int]]) -> list[Evaluation]:
        """Return the `Evaluation` of each pair.

        What a training does wrong is told of the refit, not of every candidate and
        fold. The workers have the filters of warnings that are set here.
        """
        tasks = [
            delayed(_evaluate)(
                clone(self.estimator).set_params(**self.candidates[candidate]),
                self.data,
                self.folds[fold],
                self.scorer,
                note=f"Raised for {self.candidates[candidate]} in fold {fold}, whose "
                "samples are counted from 0.",
            )
            for candidate, fold in pairs
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TransferWarning)
            return Parallel(n_jobs=self.n_jobs)(tasks)


def _evaluate(model, data, fold, scorer, note):
    """Fit a model to a part of the samples, and score it on the others (Evaluation)."""
    train, held = fold
    try:
        began = time.perf_counter()
        model.fit(*data.take(train))
        fitted = time.perf_counter()
        score = _score(scorer, model, *data.take(held))
    except Exception as error:
        error.add_note(note)
        raise
    times = fitted - began, time.perf_counter() - fitted
    if not isinstance(score, Real):
        raise ValueError(f"`scoring` must give one number. Got {score!r}.")
    return Evaluation(float(score), *times, model.n_trainable_parameters_)


def _score(scorer, model, X, y, sample_weight):
    """Score a model, with weights if there are any and the scorer takes them."""
    if sample_weight is None or not _takes_weights(scorer):
        return scorer(model, X, y)
    return scorer(model, X, y, sample_weight=sample_weight)


def _takes_weights(scorer):
    parameters = inspect.signature(scorer).parameters.values()
    return any(p.name == "sample_weight" or p.kind is p.VAR_KEYWORD for p in parameters)
