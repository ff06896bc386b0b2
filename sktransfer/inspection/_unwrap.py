"""The estimator of this package inside pipelines, searches and meta-estimators."""

from __future__ import annotations

from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from sktransfer.utils import check_is_fitted

_INNER = ("best_estimator_", "estimator_")


def unwrapped(estimator: Any) -> Any:
    """Return what searches, frozen and other meta-estimators hold, in any order.

    It is a pipeline or an estimator that holds no other one, such as the estimator
    itself.
    """
    inner = estimator
    while True:
        held = [name for name in _INNER if hasattr(inner, name)]
        if isinstance(inner, FrozenEstimator):  # which has the attributes of its own
            inner = inner.estimator
        elif isinstance(inner, Pipeline) or not held:
            return inner
        else:  # also if it has `model_`, as that of an adapted estimator
            inner = getattr(inner, held[0])


def fitted_reader(estimator: Any) -> Any:
    """Return the fitted estimator that reads the samples.

    It is the estimator itself, the first step of a pipeline, or what a search, a frozen
    or another meta-estimator holds. Any other estimator raises a TypeError.
    """
    inner = unwrapped(estimator)
    while isinstance(inner, Pipeline):
        inner = unwrapped(inner.steps[0][1])
    if not hasattr(inner, "model_"):
        raise _no_reader(estimator, inner)
    return inner


def _no_reader(estimator, inner):
    """Return the error for an estimator that is not fitted, or not of this package."""
    check_is_fitted(inner)
    return TypeError(
        "`estimator` must be a fitted estimator of sktransfer, or a pipeline that "
        f"begins with one. Got {type(estimator).__name__}, in which {inner!r} reads "
        "the samples."
    )


def read(estimator: Any, X: Any) -> Any:
    """Return X as the samples that a fitted estimator would read."""
    reader = fitted_reader(estimator)
    return reader.model_.read(X, image_shape=reader.image_shape)
