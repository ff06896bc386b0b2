"""Display of the score against the number of training samples, beside baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.model_selection import check_cv, learning_curve
from sklearn.utils import check_random_state

from sktransfer.inspection._baselines import baselines_of, score_label, task_of
from sktransfer.inspection._figures import legend, panels, style
from sktransfer.utils import types

_HEIGHT = 3.2  # inches


class LearningCurveDisplay:
    """Display of the score against the number of training samples.

    The estimator is drawn beside what a pretrained network has to beat: a linear model
    of the raw samples, and the same network with random weights. It is recommended to
    use :meth:`from_estimator`.

    Parameters
    ----------
    train_sizes : array-like of shape (n_sizes,)
        Numbers of training samples.
    scores : mapping of str to array-like of shape (n_sizes, n_folds)
        Scores on held-out samples by the name of the line. The first line is drawn
        thicker.
    score_name : str, default="score"
        Label of the scores.

    Attributes
    ----------
    train_sizes : ndarray of shape (n_sizes,)
    scores : dict of str to ndarray of shape (n_sizes, n_folds)
    table : pandas.DataFrame of shape (n_sizes, n_lines)
        Mean scores over the folds.
    score_name : str
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
    lines_ : list of matplotlib.container.ErrorbarContainer

    See Also
    --------
    sklearn.model_selection.LearningCurveDisplay : Training and test scores of one
        estimator.
    StageProbeDisplay : Scores of all stages.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTunedClassifier
    >>> from sktransfer.inspection import LearningCurveDisplay
    >>> digits = load_digits(n_class=3)
    >>> display = LearningCurveDisplay.from_estimator(
    ...     FineTunedClassifier(freeze="all", image_size=32),
    ...     digits.images[:90] / 16,
    ...     digits.target[:90],
    ...     train_sizes=[6, 30],
    ...     cv=2,
    ...     random_state=0,
    ... )
    >>> [*display.scores]
    ['FineTunedClassifier', 'raw pixels', 'random weights']
    """

    def __init__(
        self,
        train_sizes: ArrayLike,
        scores: Mapping[str, ArrayLike],
        *,
        score_name: str = "score",
    ):
        self.train_sizes = np.asarray(train_sizes)
        self.scores = {name: np.asarray(v, dtype=float) for name, v in scores.items()}
        for name, values in self.scores.items():
            if values.ndim != 2 or len(values) != len(self.train_sizes):
                raise ValueError(
                    f"`scores` must have the shape ({len(self.train_sizes)}, n_folds), "
                    f"with one row per training size. Got {values.shape} for {name!r}."
                )
        self.table = pd.DataFrame(
            {name: values.mean(axis=1) for name, values in self.scores.items()},
            index=pd.Index(self.train_sizes, name="training samples"),
        )
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: types.Samples,
        y: ArrayLike,
        *,
        baselines: str | Sequence[str | tuple[str, Any]] = "auto",
        train_sizes: ArrayLike = (0.1, 0.2, 0.4, 0.7, 1.0),
        cv: Any = 5,
        scoring: Any = None,
        groups: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        name: str | None = None,
        ax: Any = None,
    ) -> LearningCurveDisplay:
        """Compute learning curves by cross-validation, and draw them.

        Every line gets the same training samples, of which a smaller number is a part
        of a larger one. For classification, each class has its share of them, and at
        least one sample if there are as many as classes.

        Parameters
        ----------
        estimator : estimator
            An estimator of sktransfer, or a pipeline or a search with one.
        X : array-like of n_samples
            Samples, as in `fit` of the estimator.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels or regression targets.
        baselines : "auto" or list, default="auto"
            The lines beside that of the estimator. In a list, each is

            - ``"raw"``: logistic regression (``C=10``, one per label of multilabel y)
              or ridge regression of what the samples are without a network, which is
              pixels of thumbnails, TF-IDF of texts, or standardised columns;
            - ``"random weights"``: the estimator with ``weights=None``;
            - a pair (name, estimator).

            "auto" stands for the first two, where the estimator has them. Recordings
            have no raw features, and networks that are given as objects have no random
            weights.
        train_sizes : array-like of int or float, default=(0.1, 0.2, 0.4, 0.7, 1.0)
            As in :func:`sklearn.model_selection.learning_curve`: numbers of training
            samples, or shares of those of a fold.
        cv : int, cross-validation generator or iterable, default=5
            As there.
        scoring : str or callable, default=None
            As there; by default the accuracy or R².
        groups : array-like of shape (n_samples,), default=None
            Groups for `cv`.
        random_state : int, RandomState or None, default=None
            Chooses the training samples.
        n_jobs : int, default=None
            Number of processes.
        name : str, default=None
            Name of the line of the estimator; by default that of its class.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in; by default those of a new figure.

        Returns
        -------
        LearningCurveDisplay

        Raises
        ------
        ValueError
            If `baselines` has something else, or what the estimator does not have, or
            if two lines have the same name.
        """
        task = task_of(estimator, y)
        own = name or type(estimator).__name__, estimator
        lines = _by_name([own, *baselines_of(estimator, X, baselines, task)])
        splitter = check_cv(cv, y, classifier=task != "regression")
        rng, labels = check_random_state(random_state), np.asarray(y)
        if task != "classification" or labels.ndim > 1:
            labels = np.zeros(len(labels))  # nothing to keep in proportion
        how = {
            "train_sizes": np.asarray(train_sizes),
            "cv": [
                (_in_proportion(train, labels, rng), test)
                for train, test in splitter.split(X, y, groups)
            ],
            "scoring": scoring,
            "n_jobs": n_jobs,
            "error_score": "raise",
        }
        results = {k: learning_curve(line, X, y, **how) for k, line in lines.items()}
        sizes, *_ = next(iter(results.values()))
        scores = {name: result[2] for name, result in results.items()}
        return cls(sizes, scores, score_name=score_label(scoring, task)).plot(ax)

    def plot(self, ax: Any = None) -> LearningCurveDisplay:
        """Draw the mean scores, with their standard deviation as error bars.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in; by default those of a new figure.

        Returns
        -------
        LearningCurveDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        (ax,) = panels(ax, [_HEIGHT], feature=type(self).__name__)
        settings = {"markersize": 4, "elinewidth": 1, "capsize": 2}
        self.lines_ = [
            ax.errorbar(
                self.train_sizes,
                values.mean(axis=1),
                yerr=values.std(axis=1),
                **settings,
                **style(number),
                linewidth=1.5 if number else 2.5,
                label=name,
            )
            for number, (name, values) in enumerate(self.scores.items())
        ]
        ax.set(
            xscale="log",
            xlabel="Training samples",
            ylabel=self.score_name,
            title="Learning curves",
        )
        ax.set_xticks(self.train_sizes, [f"{size:g}" for size in self.train_sizes])
        ax.set_xticks([], minor=True)
        legend(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _by_name(lines):
    """Return the estimators of pairs (name, estimator) by name (dict)."""
    names = [name for name, _ in lines]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"Each line must have a name of its own. Got {twice[0]!r} more than once, "
            f"of {names}; change `name`, or the names in `baselines`."
        )
    return dict(lines)


def _in_proportion(train, labels, rng):
    """Return shuffled indices whose beginnings hold each label in proportion.

    The first indices are one of each label.
    """
    train = rng.permutation(train)
    labels = pd.Series(labels[train])
    in_class = labels.groupby(labels)
    share = in_class.cumcount() / in_class.transform("size")
    return train[np.argsort(share.to_numpy(), kind="stable")]
