"""Plot of the scores of a ranking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from sktransfer.advice import BackboneRanker
from sktransfer.inspection._figures import legend, panels, style
from sktransfer.utils import check_is_fitted

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_HEIGHT = 3.2  # inches


class RankingDisplay:
    """Plot of the scores of backbones over the cost of each stage.

    Parameters
    ----------
    scores : pandas.DataFrame
        ``scores_`` of a :class:`sktransfer.advice.BackboneRanker`.
    score_name : str, default="score"
        Label of the axis of scores.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
    lines_ : list of matplotlib.lines.Line2D
        One line per backbone.

    See Also
    --------
    sktransfer.advice.BackboneRanker : Computes the scores.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer.advice import BackboneRanker
    >>> from sktransfer.inspection import RankingDisplay
    >>> digits = load_digits()
    >>> ranker = BackboneRanker(["efficientnet_lite0"], image_size=32)
    >>> ranker = ranker.fit(digits.images[:50] / 16, digits.target[:50])
    >>> display = RankingDisplay.from_estimator(ranker)
    >>> display.ax_.get_ylabel()
    'lda'
    """

    def __init__(self, scores: pd.DataFrame, *, score_name: str = "score"):
        self.scores = scores
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls, ranker: BackboneRanker, *, ax: Axes | None = None, **kwargs: Any
    ) -> RankingDisplay:
        """Plot the scores of a fitted ranker.

        Parameters
        ----------
        ranker : BackboneRanker
            Fitted ranker.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in; by default those of a new figure.
        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        RankingDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the ranker is not fitted.
        ImportError
            If matplotlib is not installed.
        """
        check_is_fitted(ranker)
        scorer = ranker.scorer_
        name = scorer if isinstance(scorer, str) else getattr(scorer, "__name__", "")
        return cls(ranker.scores_, score_name=name or "score").plot(ax=ax, **kwargs)

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> RankingDisplay:
        """Plot one line per backbone.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in; by default those of a new figure.
        **kwargs
            Passed to :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        RankingDisplay
            The display, with ``ax_``, ``figure_`` and ``lines_``.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        (ax,) = panels(ax, [_HEIGHT], feature=type(self).__name__)
        self.lines_: list = []
        tables = self.scores.groupby("backbone", sort=False)
        for number, (name, table) in enumerate(tables):
            settings = {**style(number), "markersize": 4, "label": name, **kwargs}
            self.lines_ += ax.plot(
                table["multiply_adds"] / 1e6, table["score"], **settings
            )
        ax.set(
            xlabel="Million multiply-adds per sample, up to the stage",
            ylabel=self.score_name,
            title="Score of each stage",
        )
        legend(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self
