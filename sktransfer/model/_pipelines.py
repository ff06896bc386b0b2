"""Fitted pipelines of an extractor, scalers and a linear model as one module."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from torch import nn

from sktransfer.model._module import ExportedModule
from sktransfer.model._onnx import check_path, write_onnx
from sktransfer.utils import check_is_fitted, types


class Affine(nn.Module):
    """Compute ``(z - shift) @ weight + bias`` in float64, as scikit-learn does.

    A weight of one axis is a factor per column.
    """

    shift: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, weight: Any = 1.0, *, shift: Any = 0.0, bias: Any = 0.0):
        super().__init__()
        for name, value in {"shift": shift, "weight": weight, "bias": bias}.items():
            tensor = torch.tensor(np.asarray(value), dtype=torch.float64)
            self.register_buffer(name, tensor)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Compute the columns of some rows (n, d)."""
        z = z.double() - self.shift
        z = z @ self.weight if self.weight.ndim == 2 else z * self.weight
        return z + self.bias


class TwoClasses(nn.Module):
    """Probabilities of two classes from the score of the second one."""

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        """Compute probabilities (n, 2) from scores (n, 1)."""
        return torch.cat([torch.sigmoid(-scores), torch.sigmoid(scores)], dim=1)


def to_torch(estimator: Any) -> ExportedModule:
    """Return a fitted estimator or pipeline as one PyTorch module.

    Parameters
    ----------
    estimator : fitted estimator or Pipeline
        An estimator of sktransfer, or a :class:`sklearn.pipeline.Pipeline` that begins
        with one. Its other steps may be StandardScaler, MinMaxScaler, MaxAbsScaler,
        RobustScaler and PCA, and the last one LogisticRegression, LogisticRegressionCV,
        LinearDiscriminantAnalysis, or a linear regressor such as Ridge.

    Returns
    -------
    torch.nn.Module
        It takes raw samples, and returns what ``predict_proba``, ``predict`` or
        ``transform`` returns; see :meth:`sktransfer.FineTunedClassifier.to_torch`.

    Raises
    ------
    TypeError
        If a step cannot be exported.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    See Also
    --------
    to_onnx : Writes the module to a file.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sktransfer import PretrainedFeatureExtractor
    >>> from sktransfer.model import to_torch
    >>> digits = load_digits(n_class=2)
    >>> X, y = (15 * digits.images[:40]).astype("uint8"), digits.target[:40]
    >>> pipeline = make_pipeline(
    ...     PretrainedFeatureExtractor(image_size=32), StandardScaler(),
    ...     LogisticRegression(),
    ... ).fit(X, y)
    >>> module = to_torch(pipeline)
    >>> images = torch.from_numpy(X[:3])[..., None].repeat(1, 1, 1, 3)  # RGB
    >>> module(images).argmax(dim=1).tolist() == y[:3].tolist()
    True
    """
    check_is_fitted(estimator)
    if not isinstance(estimator, Pipeline):
        return _exported(estimator)
    first, *others = steps_of(estimator)
    module = _exported(first)
    if not others:
        return module
    output, classes = module.output_name, None
    parts = modules_of(others)
    if hasattr(others[-1], "predict"):
        classes = getattr(others[-1], "classes_", None)
        output = "predictions" if classes is None else "probabilities"
    return module.followed_by(parts, output, classes)


def steps_of(pipeline: Pipeline) -> list:
    """Return the steps of a pipeline that do something."""
    return [step for _, step in pipeline.steps if step not in (None, "passthrough")]


def modules_of(steps: list) -> list[nn.Module]:
    """Return the modules that compute what the later steps of a pipeline compute."""
    parts: list[nn.Module] = []
    for step in steps:
        if hasattr(step, "predict") and step is not steps[-1]:
            raise TypeError(
                "Only the last step of a pipeline may predict for it to be exported. "
                f"Got {type(step).__name__} before it."
            )
        parts += _parts_of(step)
    return parts


def to_onnx(
    estimator: Any,
    path: str | os.PathLike,
    *,
    image_size: types.ImageSize | None = None,
) -> Path:
    """Write a fitted estimator or pipeline to an ONNX file.

    Parameters
    ----------
    estimator : fitted estimator or Pipeline
        As in :func:`to_torch`.
    path : str or os.PathLike
        File to write, in a folder that exists.
    image_size : int or (int, int), default=None
        Height and width of the raw images that the file takes, in pixels. By default
        those of the model input.

    Returns
    -------
    pathlib.Path
        Path of the file.

    Raises
    ------
    ImportError
        If the extra ``onnx`` is not installed.
    TypeError
        If a step cannot be exported.

    See Also
    --------
    sktransfer.FineTunedClassifier.to_onnx : Has all errors.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import PretrainedFeatureExtractor
    >>> from sktransfer.model import to_onnx
    >>> digits = load_digits(n_class=2)
    >>> X, y = digits.images[:20] / 16, digits.target[:20]
    >>> extractor = PretrainedFeatureExtractor(stage="blocks.1", image_size=32)
    >>> pipeline = make_pipeline(extractor, LogisticRegression()).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = to_onnx(pipeline, Path(folder) / "digits.onnx")
    ...     path.name, path.stat().st_size > 10_000
    ('digits.onnx', True)
    """
    return write_onnx(to_torch(estimator), check_path(path), image_size=image_size)


def _exported(step):
    if not hasattr(step, "to_torch"):
        raise TypeError(
            "`estimator` must be an estimator of sktransfer, or a pipeline that begins "
            f"with one. Got {type(step).__name__}."
        )
    return step.to_torch()


def _parts_of(step: Any) -> list[nn.Module]:
    """Return the modules that compute what a fitted step computes."""
    name = type(step).__name__
    if name in _STEPS and type(step).__module__.startswith("sklearn."):
        return _STEPS[name](step)
    is_of_sklearn = type(step).__module__.startswith("sklearn.linear_model.")
    if is_of_sklearn and name.removesuffix("CV") in _LINEAR:
        return [_linear(step)]
    raise TypeError(
        f"A step of a pipeline must be one of {[*_STEPS]} or a linear regressor of "
        f"scikit-learn, {[*_LINEAR]}, to be exported. Got {name}."
    )


def _standard(step):
    scale = 1.0 if step.scale_ is None else 1 / step.scale_
    return [Affine(scale, shift=step.mean_ if step.with_mean else 0.0)]


def _min_max(step):
    parts: list[nn.Module] = [Affine(step.scale_, bias=step.min_)]
    return [*parts, nn.Hardtanh(*step.feature_range)] if step.clip else parts


def _max_abs(step):
    return [Affine(1 / step.scale_)]


def _robust(step):
    scale = 1.0 if step.scale_ is None else 1 / step.scale_
    return [Affine(scale, shift=0.0 if step.center_ is None else step.center_)]


def _pca(step):
    components = step.components_.T
    if step.whiten:
        components = components / np.sqrt(step.explained_variance_)
    return [Affine(components, shift=step.mean_)]


def _linear(step):
    weight = np.atleast_2d(step.coef_).T
    affine = Affine(weight, bias=step.intercept_)
    return nn.Sequential(affine, nn.Flatten(0)) if step.coef_.ndim == 1 else affine


def _probabilities(step):
    scores = Affine(step.coef_.T, bias=step.intercept_)
    if len(step.classes_) == 2:
        return [scores, TwoClasses()]
    if getattr(step, "solver", None) == "liblinear":
        raise TypeError(
            "A LogisticRegression of more than two classes must be multinomial to be "
            "exported. Got solver='liblinear'; take another one, such as 'lbfgs'."
        )
    return [scores, nn.Softmax(1)]


# Regressors whose predictions are linear, also with a "CV" at the end of the name.
_LINEAR = (
    *("LinearRegression", "Ridge", "Lasso", "ElasticNet", "Lars", "LassoLars"),
    *("BayesianRidge", "ARDRegression", "HuberRegressor", "QuantileRegressor"),
    *("TheilSenRegressor", "SGDRegressor", "OrthogonalMatchingPursuit"),
    *("MultiTaskLasso", "MultiTaskElasticNet"),
)
_STEPS: dict[str, Callable[[Any], list[nn.Module]]] = {
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": _max_abs,
    "RobustScaler": _robust,
    "PCA": _pca,
    "LogisticRegression": _probabilities,
    "LogisticRegressionCV": _probabilities,
    "LinearDiscriminantAnalysis": _probabilities,
}
