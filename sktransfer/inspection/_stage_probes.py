"""Display of probes: how well each stage's features suit a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.model_selection import check_cv, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import PretrainedFeatureExtractor
from sktransfer.inspection._baselines import linear_model, score_label, task_of
from sktransfer.inspection._figures import COLORS, legend, name_stages, panels
from sktransfer.inspection._unwrap import fitted_reader
from sktransfer.training import targets_of
from sktransfer.utils import check_is_fitted, types

_HEIGHT = 3.0  # inches
_SHARED = "image_size image_shape value_range batch_size device memory verbose".split()


class StageProbeDisplay:
    """Display of the cross-validated score of a linear probe at each stage.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    stages : sequence of str of length n_stages
        Names of the stages, in order.
    scores : array-like of shape (n_stages, n_folds)
        Scores of the probe.
    chance : float, default=None
        Score of a prediction without features, which gets a dashed line.
    boundary : str, default=None
        Stage up to which the network is frozen, which gets a dotted line.
    score_name : str, default="score"
        Label of the scores.

    Attributes
    ----------
    stages : list of str
    scores : ndarray of shape (n_stages, n_folds)
    means, stds : ndarray of shape (n_stages,)
        Mean and standard deviation of the scores over the folds.
    chance, boundary, score_name
        As given.
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
    line_ : matplotlib.container.ErrorbarContainer

    See Also
    --------
    RankingDisplay : Scores of the stages of several networks.
    FreezeDepthDisplay : Results of a search over the depth.

    References
    ----------
    G. Alain, Y. Bengio (2017). Understanding intermediate layers using linear
    classifier probes. https://arxiv.org/abs/1610.01644

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import PretrainedFeatureExtractor
    >>> from sktransfer.inspection import StageProbeDisplay
    >>> digits = load_digits()
    >>> display = StageProbeDisplay.from_estimator(
    ...     PretrainedFeatureExtractor(image_size=32),
    ...     digits.images[:60] / 16,
    ...     digits.target[:60],
    ...     cv=2,
    ... )
    >>> display.scores.shape
    (9, 2)
    """

    def __init__(
        self,
        stages: Sequence[str],
        scores: ArrayLike,
        *,
        chance: float | None = None,
        boundary: str | None = None,
        score_name: str = "score",
    ):
        self.stages = [str(stage) for stage in stages]
        self.scores = np.asarray(scores, dtype=float)
        if self.scores.ndim != 2 or len(self.scores) != len(self.stages):
            raise ValueError(
                f"`scores` must have the shape ({len(self.stages)}, n_folds), with one "
                f"row per stage. Got {self.scores.shape}."
            )
        self.means, self.stds = self.scores.mean(axis=1), self.scores.std(axis=1)
        self.chance = chance
        self.boundary = boundary
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: types.Samples,
        y: ArrayLike | None = None,
        *,
        probe: Any = None,
        cv: Any = 5,
        scoring: Any = None,
        groups: ArrayLike | None = None,
        ax: Any = None,
    ) -> StageProbeDisplay:
        """Cross-validate a probe at each stage, and draw the scores.

        The samples go through the network once.

        Parameters
        ----------
        estimator : PretrainedFeatureExtractor or fitted estimator
            The network. Of a fine-tuned one, the trained stages are probed. If they
            were trained on the same samples, their scores are too high.
        X : array-like of n_samples
            Samples, as in `fit` of the estimator.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Labels or regression targets. By default those of X, if it is a Dataset.
        probe : estimator, default=None
            Estimator that is fitted to features. By default they are standardised,
            followed by ridge regression for a regressor or continuous y, and otherwise
            by logistic regression, one per label of multilabel y.
        cv : int, cross-validation generator or iterable, default=5
            As in :func:`sklearn.model_selection.cross_val_score`.
        scoring : str or callable, default=None
            As there; by default the accuracy or R².
        groups : array-like of shape (n_samples,), default=None
            Groups for `cv`.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in; by default those of a new figure.

        Returns
        -------
        StageProbeDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is neither fitted nor a PretrainedFeatureExtractor.
        """
        extractor, boundary = _extractor_of(estimator)
        stages, features, y = _features(extractor, X, y)
        task = task_of(estimator, y)
        is_regression = task == "regression"
        if probe is None:
            probe = make_pipeline(StandardScaler(), linear_model(task))
        splits = [*check_cv(cv, y, classifier=not is_regression).split(X, y, groups)]
        how = {"y": y, "cv": splits, "scoring": scoring}
        dummy = DummyRegressor() if is_regression else DummyClassifier()
        chance = cross_val_score(dummy, np.zeros((len(features[0]), 1)), **how).mean()
        return cls(
            stages,
            [cross_val_score(clone(probe), of_stage, **how) for of_stage in features],
            chance=float(chance),
            boundary=boundary,
            score_name=score_label(scoring, task),
        ).plot(ax)

    def plot(self, ax: Any = None) -> StageProbeDisplay:
        """Draw the mean scores, with their standard deviation as error bars.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in; by default those of a new figure.

        Returns
        -------
        StageProbeDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        (ax,) = panels(ax, [_HEIGHT], feature=type(self).__name__)
        self.line_ = ax.errorbar(
            np.arange(len(self.stages)),
            self.means,
            yerr=self.stds,
            color=COLORS[0],
            marker="o",
            markersize=4,
            capsize=2,
            elinewidth=1,
            label="probe",
        )
        if self.chance is not None:
            ax.axhline(self.chance, color="gray", linestyle="--", label="no features")
        if self.boundary in self.stages:
            place = self.stages.index(self.boundary) + 0.5
            ax.axvline(place, color="black", linestyle=":", label="trained from here")
        name_stages(ax, self.stages)
        ax.set(
            xlabel="Features after", ylabel=self.score_name, title="Probe at each stage"
        )
        legend(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _extractor_of(estimator):
    """Return an extractor of the same network, and its boundary if it was trained."""
    if isinstance(estimator, PretrainedFeatureExtractor):
        return clone(estimator), None
    check_is_fitted(estimator)
    fitted = fitted_reader(estimator)
    if isinstance(fitted, PretrainedFeatureExtractor):
        return clone(fitted), None
    params = fitted.get_params(deep=False)
    settings = {name: params[name] for name in _SHARED}
    settings["image_size"] = None  # that of the fitted network
    return PretrainedFeatureExtractor(fitted, **settings), fitted.boundary_


def _features(extractor, X, y):
    """Return the names of the stages, the features of each, and the targets."""
    extractor.fit(X)
    stages = extractor.backbone_.stage_names
    extractor.set_params(stage=stages).fit(X)
    if y is None:
        y = targets_of(extractor.model_.read(X, image_shape=extractor.image_shape), y)
    ends = np.cumsum(extractor.model_.outputs.widths)[:-1]
    return stages, np.split(extractor.transform(X), ends, axis=1), np.asarray(y)
