"""Display of a search: scores and fit times against the depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sktransfer.inspection._figures import legend, name_stages, panels, style
from sktransfer.inspection._search import read_search

_HEIGHTS = (2.8, 1.6)  # inches, of the scores and of the fit times


class FreezeDepthDisplay:
    """Display of the score and the fit time of a search against the depth.

    The depth is how many leading stages are frozen or, for features, the stage after
    which they are taken. It is recommended to use :meth:`from_cv_results`.

    Parameters
    ----------
    depths : array-like of str, shape (n_candidates,)
        Names of the boundaries.
    scores, score_stds : array-like of shape (n_candidates,)
        Mean and standard deviation of the score over the folds.
    fit_times, fit_time_stds : array-like of shape (n_candidates,), default=None
        Mean and standard deviation of the fit time over the folds, in seconds. By
        default no times are drawn.
    labels : array-like of str, shape (n_candidates,), default=None
        The line that each candidate belongs to; by default there is one line.
    stages : sequence of str, default=None
        All names in `depths` from the shallowest to the deepest; by default in the
        order of their first appearance.
    score_name : str, default="score"
        Label of the scores.
    depth_name : str, default="Frozen up to"
        Label of the depths.
    best : int, default=None
        Position of the candidate that was chosen, which gets a ring.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per candidate: ``depth``, ``position`` (of the depth in `stages`),
        ``label``, ``score``, ``score_std`` and, if known, ``fit_time`` and
        ``fit_time_std``.
    stages : list of str
    ax_ : matplotlib.axes.Axes
        Axes of the scores.
    time_ax_ : matplotlib.axes.Axes or None
        Axes of the fit times.
    figure_ : matplotlib.figure.Figure
    lines_, time_lines_ : list of matplotlib.container.ErrorbarContainer
        One per label.

    See Also
    --------
    StageProbeDisplay : Probes of all stages, without a search.
    TrainingHistoryDisplay : Epochs of one training.

    Examples
    --------
    >>> from sktransfer.inspection import FreezeDepthDisplay
    >>> display = FreezeDepthDisplay(
    ...     ["stem", "blocks.0", "all"],
    ...     [0.8, 0.9, 0.7],
    ...     [0.02, 0.01, 0.03],
    ...     score_name="accuracy",
    ... )
    >>> display.plot().ax_.get_ylabel()
    'accuracy'
    """

    def __init__(
        self,
        depths: Sequence[str],
        scores: ArrayLike,
        score_stds: ArrayLike,
        *,
        fit_times: ArrayLike | None = None,
        fit_time_stds: ArrayLike | None = None,
        labels: Sequence[str] | None = None,
        stages: Sequence[str] | None = None,
        score_name: str = "score",
        depth_name: str = "Frozen up to",
        best: int | None = None,
    ):
        self.stages = [*dict.fromkeys(depths)] if stages is None else [*stages]
        positions = {name: i for i, name in enumerate(self.stages)}
        columns = {
            "depth": [*depths],
            "position": [positions[name] for name in depths],
            "label": [""] * len(depths) if labels is None else [*labels],
            "score": np.asarray(scores, dtype=float),
            "score_std": np.asarray(score_stds, dtype=float),
        }
        if fit_times is not None:
            stds = np.zeros(len(depths)) if fit_time_stds is None else fit_time_stds
            columns["fit_time"] = np.asarray(fit_times, dtype=float)
            columns["fit_time_std"] = np.asarray(stds, dtype=float)
        self.table = pd.DataFrame(columns)
        self.score_name = score_name
        self.depth_name = depth_name
        self.best = best

    @classmethod
    def from_cv_results(
        cls,
        search: Any,
        *,
        depth: str | None = None,
        lines: Sequence[str] | None = None,
        metric: str = "score",
        ax: Any = None,
    ) -> FreezeDepthDisplay:
        """Draw the results of a fitted search over a depth.

        Parameters
        ----------
        search : GridSearchCV, RandomizedSearchCV or other fitted search
            Its parameters include `freeze` of a fine-tuned estimator or `stage` of a
            :class:`sktransfer.PretrainedFeatureExtractor`, also within a pipeline.
        depth : str, default=None
            Name of that parameter, as ``"features__stage"``. It is needed only if the
            search has several.
        lines : sequence of str, default=None
            Names of other parameters, whose values get a line each; of the candidates
            that differ in any further parameter, the one with the best score is drawn.
            By default all others, if they make at most seven lines, and otherwise none.
        metric : str, default="score"
            Name of the metric of a search with several.
        ax : matplotlib.axes.Axes or pair of them, default=None
            Axes of the scores and of the fit times. With one, only the scores are
            drawn; by default both are, in a new figure.

        Returns
        -------
        FreezeDepthDisplay

        Raises
        ------
        ValueError
            If the search varies no depth or several, or has no such metric.
        sklearn.exceptions.NotFittedError
            If the search is not fitted.
        """
        found = read_search(search, depth, lines, metric)
        table = found.table
        return cls(
            table["depth"],
            table["score"],
            table["score_std"],
            fit_times=table["fit_time"],
            fit_time_stds=table["fit_time_std"],
            labels=table["label"],
            stages=found.stages,
            score_name=found.score_name,
            depth_name=found.depth_name,
            best=found.best,
        ).plot(ax)

    def plot(self, ax: Any = None) -> FreezeDepthDisplay:
        """Draw one line per label, with the spread over the folds as error bars.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or pair of them, default=None
            As in :meth:`from_cv_results`.

        Returns
        -------
        FreezeDepthDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If more axes are given than there is to draw.
        """
        heights = _HEIGHTS if "fit_time" in self.table else _HEIGHTS[:1]
        axes = panels(ax, heights, feature=type(self).__name__)
        self.ax_, self.figure_ = axes[0], axes[0].figure
        self.time_ax_ = axes[1] if len(axes) > 1 else None
        self.lines_ = self._draw(self.ax_, "score")
        self._ring()
        legend(self.ax_)
        self.ax_.set(ylabel=self.score_name, title="Cross-validation by depth")
        self.time_lines_ = []
        if self.time_ax_ is not None:
            self.time_lines_ = self._draw(self.time_ax_, "fit_time")
            self.time_ax_.set_ylabel("fit time (s)")
            self.time_ax_.set_ylim(bottom=0)
        name_stages(axes[-1], self.stages)
        axes[-1].set_xlabel(self.depth_name)
        return self

    def _draw(self, ax, column):
        """Draw a column of the table, one line per label."""
        drawn, groups = [], self.table.groupby("label", sort=False)
        for number, (label, line) in enumerate(groups):
            line = line.sort_values("position")
            shift = 0.06 * (number - (len(groups) - 1) / 2)  # bars side by side
            drawn.append(
                ax.errorbar(
                    line["position"] + shift,
                    line[column],
                    yerr=line[f"{column}_std"],
                    **style(number),
                    markersize=4,
                    linewidth=1.5,
                    elinewidth=1,
                    capsize=2,
                    label=label,
                )
            )
        return drawn

    def _ring(self):
        """Draw a ring around the candidate that was chosen."""
        if self.best is None:
            return
        row = self.table.iloc[self.best]
        number = [*dict.fromkeys(self.table["label"])].index(row["label"])
        n_lines = self.table["label"].nunique()
        self.ax_.plot(
            row["position"] + 0.06 * (number - (n_lines - 1) / 2),
            row["score"],
            "o",
            markersize=12,
            markerfacecolor="none",
            markeredgecolor="black",
            label="chosen",
            zorder=3,
        )
