"""Estimators that a pretrained network is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone, is_regressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from sktransfer._base import BackboneEstimator, backbone_of
from sktransfer.backbones import modality_for
from sktransfer.utils import type_of_target

Task = Literal["regression", "multilabel", "classification"]

RAW, RANDOM = "raw", "random weights"
_LACKING = {
    RAW: "it does not begin with an estimator of sktransfer, or its samples have no "
    "plain features",
    RANDOM: "it has no network that is given by its name",
}


def task_of(estimator: Any, y: ArrayLike) -> Task:
    """Return the task of a regressor, or of any other estimator by its targets."""
    kind = type_of_target(y)
    if is_regressor(estimator) or kind.startswith("continuous"):
        return "regression"
    return "multilabel" if kind.startswith("multilabel") else "classification"


def linear_model(task: Task, *, C: float = 1.0) -> BaseEstimator:
    """Return ridge regression of a chosen strength, or logistic regression."""
    if task == "regression":
        return RidgeCV(np.logspace(-2, 4, 7))
    logistic = LogisticRegression(C=C, max_iter=1000)
    return OneVsRestClassifier(logistic) if task == "multilabel" else logistic


def score_label(scoring: Any, task: Task) -> str:
    """Return the words for the scores that `scoring` computes."""
    if scoring is None:
        return "R²" if task == "regression" else "accuracy"
    return scoring.replace("_", " ") if isinstance(scoring, str) else "score"


def baselines_of(
    estimator: Any,
    X: Any,
    baselines: str | Sequence[str | tuple[str, Any]],
    task: Task,
) -> list[tuple[str, Any]]:
    """Return pairs (name, estimator); see `LearningCurveDisplay.from_estimator`."""
    makers = {
        RAW: lambda: _raw(estimator, X, task),
        RANDOM: lambda: _with_random_weights(estimator),
    }
    if not isinstance(baselines, str):
        return [_choose(baseline, makers) for baseline in baselines]
    if baselines != "auto":
        raise _wrong(baselines)
    made = [make() for make in makers.values()]
    return [pair for pair in made if pair is not None]


def _choose(baseline, makers):
    """Return the name and the estimator of one baseline that is asked for."""
    pair = baseline
    if isinstance(baseline, str) and baseline in makers:
        pair = makers[baseline]()
        if pair is None:
            raise ValueError(
                f"`baselines` cannot have {baseline!r} for this estimator, as "
                f"{_LACKING[baseline]}. Leave it out, or pass a pair (name, estimator)."
            )
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise _wrong(baseline)
    return pair


def _wrong(baseline):
    return ValueError(
        f"`baselines` must be 'auto' or a list, in which each is {RAW!r}, {RANDOM!r} "
        f"or a pair (name, estimator). Got {baseline!r}."
    )


def _raw(estimator, X, task):
    """Return a linear model of what the samples are without a network, and a name."""
    reader = _first(estimator)
    if reader is None:
        return None
    params = reader.get_params(deep=False)
    modality = modality_for(X, backbone_of(reader.backbone), params)
    found = modality.plain_features({name: params[name] for name in modality.options})
    if found is None:
        return None
    name, features = found
    return name, make_pipeline(features, linear_model(task, C=10))


def _first(estimator):
    """Return the estimator of this package that gets X, also within others; or None."""
    while not isinstance(estimator, BackboneEstimator):
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[0][1]
        elif hasattr(estimator, "estimator"):
            estimator = estimator.estimator
        else:
            return None
    return estimator


def _with_random_weights(estimator):
    """Return a name and a copy whose named networks have random weights, or None."""
    names = [f"{prefix}weights" for prefix in _with_named_network(estimator)]
    if not names:
        return None
    return RANDOM, clone(estimator).set_params(**dict.fromkeys(names))


def _with_named_network(estimator) -> Iterator[str]:
    """Iterate over the prefixes of parameters of estimators that load a network."""
    parts = {"": estimator}
    parts |= {f"{name}__": part for name, part in estimator.get_params().items()}
    for prefix, part in parts.items():
        if isinstance(part, BackboneEstimator) and isinstance(part.backbone, str):
            yield prefix
