"""Ranking of backbones and of their stages without training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from torch import nn

from sktransfer._base import restore_on_error
from sktransfer._features import resolve_stages
from sktransfer.activations import POOLINGS
from sktransfer.advice._reader import StageReader, choose_samples, probabilities
from sktransfer.advice._registry import find_score
from sktransfer.backbones import Backbone, stated_license
from sktransfer.training import targets_of
from sktransfer.utils import (
    Interval,
    StrOptions,
    spawn_seed,
    type_of_target,
    types,
    warn_caller,
)

_COLUMNS = "backbone stage score parameters multiply_adds license".split()


class BackboneRanker(BaseEstimator):
    """Rank pretrained networks and their stages for a task, without training them.

    The samples pass once through each network, and a score rates how well the features
    of each stage suit the targets. The user guide compares how well the scores predict
    the accuracy of a linear probe.

    Parameters
    ----------
    backbones : list of str, torch.nn.Module or Backbone
        Backbones, as in :func:`sktransfer.backbones.load_backbone`.
    scorer : str or callable, default="auto"
        Name of a score, see :func:`list_scores`, or ``scorer(features, y)``, which
        returns a float, and a higher one for better features:

        - "lda" is :func:`lda_score`, "logme" :func:`logme`, "n_leep" :func:`n_leep`,
          "h_score" :func:`h_score`, and "knn" is :func:`knn_score`;
        - "leep" (:func:`leep`) scores the outputs of the pretrained classifier instead
          of stages; backbones without a classifier are left out;
        - "auto" is "lda" for classes and "knn" for regression targets and multilabel y,
          to which only "knn" and "logme" apply.
    stages : "all", "last" or list of int or str, default="all"
        Stages that are scored, by name or number as `stage` of
        :class:`sktransfer.PretrainedFeatureExtractor`. Each backbone must have them.
    pooling : {"avg", "max", "avgmax", "cls", "flatten"}, default="avg"
        How activations become features, as in
        :class:`sktransfer.PretrainedFeatureExtractor`.
    task : {"auto", "classification", "regression"}, default="auto"
        "auto" means regression if y is continuous or has several columns of integers,
        and classification otherwise.
    max_samples : int or None, default=2000
        Maximum number of samples; more are subsampled, stratified by class. None means
        all samples.
    image_size, image_shape, value_range, batch_size, device, memory
        As in :class:`sktransfer.PretrainedFeatureExtractor`, for all backbones.
    random_state : int, RandomState instance or None, default=None
        Seeds the choice of samples.
    verbose : int, default=0
        Whether to show a progress bar per backbone.

    Attributes
    ----------
    scores_ : pandas.DataFrame
        One row per backbone and stage: ``backbone``, ``stage``, ``score``; the cost of
        the stage as the number of ``parameters`` and of ``multiply_adds`` per sample up
        to it; and ``license`` of the weights.
    ranking_ : list of str
        Names of the backbones in the order of their best stages, the best first.
    best_backbone_ : str, torch.nn.Module or Backbone
        The entry of `backbones` with the highest score.
    best_stage_ : str
        Stage of the best backbone with the highest score.
    best_score_ : float
        The highest score.
    scorer_ : str or callable
        The score that was used: `scorer`, or its choice if it is "auto".

    See Also
    --------
    sktransfer.inspection.RankingDisplay : Plots the scores.
    TransferAdvisor : Recommends how to train one backbone.

    References
    ----------
    .. [1] K. You et al. (2022). Ranking and tuning pre-trained models: A new paradigm
       for exploiting model hubs. https://arxiv.org/abs/2110.10545

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer.advice import BackboneRanker
    >>> digits = load_digits()
    >>> ranker = BackboneRanker(["efficientnet_lite0"], image_size=64)
    >>> ranker.fit(digits.images[:100] / 16, digits.target[:100]).best_stage_
    'blocks.4'
    """

    _parameter_constraints = {
        "backbones": [list, tuple],
        "scorer": [str, callable],
        "stages": [StrOptions({"all", "last"}), list, tuple],
        "pooling": [StrOptions({*POOLINGS})],
        "task": [StrOptions({"auto", "classification", "regression"})],
        "max_samples": [Interval(Integral, 2, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        backbones: Sequence[str | nn.Module | Backbone],
        *,
        scorer: str | Callable = "auto",
        stages: str | Sequence[int | str] = "all",
        pooling: str = "avg",
        task: str = "auto",
        max_samples: int | None = 2000,
        image_size: types.ImageSize | None = None,
        image_shape: Sequence[int] | None = None,
        value_range: types.ValueRange = "auto",
        batch_size: int | str = "auto",
        device: types.Device = "auto",
        memory: types.Memory | None = None,
        random_state: types.RandomState | None = None,
        verbose: int = 0,
    ):
        self.backbones = backbones
        self.scorer = scorer
        self.stages = stages
        self.pooling = pooling
        self.task = task
        self.max_samples = max_samples
        self.image_size = image_size
        self.image_shape = image_shape
        self.value_range = value_range
        self.batch_size = batch_size
        self.device = device
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    @restore_on_error
    def fit(self, X: types.Samples, y: ArrayLike | None = None) -> Self:
        """Score every backbone.

        Parameters
        ----------
        X : array-like of n_samples
            Samples, as in :class:`sktransfer.FineTunedClassifier`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Classes or regression targets. May be omitted if X is a Dataset with labels.

        Returns
        -------
        self : BackboneRanker

        Raises
        ------
        ValueError
            If there are no backbones, a backbone lacks a stage, or the score does not
            apply to the targets or to any backbone.
        OSError
            If the weights of no backbone can be downloaded.

        Warns
        -----
        UserWarning
            If the weights of some backbones cannot be downloaded. They are left out.
        """
        self._validate_params()
        names, seed = self._backbone_names(), spawn_seed(self.random_state)
        rows, missing = [], {}
        for given, name in zip(self.backbones, names, strict=True):
            try:
                rows += self._score_backbone(given, name, X, y, seed)
            except OSError as error:  # weights that cannot be downloaded
                missing[name] = error
        _tell_missing(missing, names)
        if not rows:
            raise ValueError(
                f"`scorer={self.scorer!r}` needs a backbone with the classifier that it"
                f" was pretrained with. Got {names}; take scorer='n_leep', which needs "
                "none."
            )
        self.scores_ = pd.DataFrame(rows, columns=_COLUMNS)
        best = self.scores_.groupby("backbone", sort=False)["score"].max()
        self.ranking_ = best.sort_values(ascending=False, kind="stable").index.tolist()
        first = self.scores_.loc[self.scores_["score"].idxmax()]
        self.best_backbone_ = self.backbones[names.index(first["backbone"])]
        self.best_stage_, self.best_score_ = first["stage"], float(first["score"])
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        for given in self.backbones[:1]:
            reader = StageReader(given, **self._reading())
            tags.input_tags = reader.__sklearn_tags__().input_tags
        return tags

    def __sklearn_is_fitted__(self):
        return hasattr(self, "scores_")

    def _backbone_names(self):
        """Return the names of the backbones, numbered where they are equal."""
        if not len(self.backbones):
            raise ValueError("`backbones` must hold at least one backbone. Got none.")
        names = []
        for given in self.backbones:
            name = given if isinstance(given, str) else _name_of(given)
            same = sum(n.partition(" #")[0] == name for n in names)
            names.append(f"{name} #{same + 1}" if same else name)
        return names

    def _score_backbone(self, given, name, X, y, seed):
        """Return the rows of ``scores_`` for a backbone (list of dict).

        There are none if the score needs a classifier that the backbone lacks.
        """
        reader = StageReader(given, **self._reading()).read(X)
        reader.copy_columns(self)
        y, regression = read_targets(reader.samples_, y, self.task)
        if y.ndim > 1 and not regression:  # multilabel y is scored as regression
            y, regression = y.astype(np.float64), True
        score = find_score(self.scorer, regression)
        self.scorer_ = self.scorer if self.scorer != "auto" else score.name
        labels = None if regression else y
        chosen = choose_samples(len(y), self.max_samples, labels, seed)
        features = self._features(reader, score, chosen)
        if not features:
            return []
        return [
            {
                "backbone": name,
                "stage": stage,
                "score": score(F, y[chosen], regression),
                **cost_of(reader.backbone_, stage),
            }
            for stage, F in features.items()
        ]

    def _features(self, reader, score, rows):
        """Return what is scored, by boundary: features of stages, or probabilities."""
        if score.of == "features":
            stages = self._stages(reader.backbone_)
            return reader.features(stages, rows, self.pooling)
        if not reader.has_classifier():
            return {}
        outputs = reader.features(["output"], rows)
        return {"output": probabilities(outputs["output"])}

    def _reading(self):
        names = (
            "image_size image_shape value_range batch_size device memory "
            "random_state verbose"
        )
        return {name: getattr(self, name) for name in names.split()}

    def _stages(self, backbone):
        names = backbone.stage_names
        if isinstance(self.stages, str):
            return names if self.stages == "all" else names[-1:]
        return resolve_stages([*self.stages], backbone, "stages")


def _tell_missing(missing, names):
    """Warn of backbones whose weights are missing; raise an OSError if all are."""
    reasons = "\n".join(f"- {name}: {error}" for name, error in missing.items())
    if missing and len(missing) == len(names):
        raise OSError(f"The weights of no backbone can be loaded:\n{reasons}")
    if missing:
        warn_caller(
            f"{len(missing)} of {len(names)} backbones are left out, as their weights "
            f"cannot be loaded:\n{reasons}"
        )


def _name_of(given):
    if isinstance(given, Backbone):
        return given.name
    return getattr(given, "__name__", type(given).__name__)


def cost_of(backbone: Backbone, stage: str) -> dict[str, int | str]:
    """Return the columns of ``scores_`` that describe a stage."""
    prefix = backbone.section("input", stage)
    return {
        "parameters": sum(p.numel() for p in prefix.parameters()),
        "multiply_adds": int(backbone.multiply_adds("input", stage)),
        "license": stated_license(backbone.license),
    }


def read_targets(samples, y, task: str = "auto") -> tuple[np.ndarray, bool]:
    """Return targets as an array, and whether they are regression targets.

    Without y, the targets are the labels of the samples.
    """
    y = np.asarray(targets_of(samples, y))
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if task == "auto":
        return y, is_regression(y)
    return y, task == "regression"


def is_regression(y: ArrayLike) -> bool:
    """Return whether targets look like regression targets."""
    kind = type_of_target(y)
    several = kind == "multiclass-multioutput" and np.asarray(y).dtype.kind in "iufb"
    return kind.startswith("continuous") or several
