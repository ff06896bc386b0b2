"""Display of the epochs of a training."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sktransfer.inspection._figures import legend, panels, style
from sktransfer.inspection._unwrap import fitted_reader
from sktransfer.utils import check_is_fitted

# Columns of the history by panel: label of the axis, height in inches, and columns with
# their labels.
_PANELS = {
    "loss": (
        "loss",
        2.2,
        {"train_loss": "training", "valid_loss": "validation", "objective": "added"},
    ),
    "accuracy": (
        "accuracy",
        1.6,
        {"train_accuracy": "training", "valid_accuracy": "validation"},
    ),
    "lr": ("learning rate", 1.1, {"lr": "learning rate"}),
}


class TrainingHistoryDisplay:
    """Display of the losses, accuracies and learning rates of a training.

    It is recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    history : pandas.DataFrame
        One row per epoch, as ``history_`` of a fitted estimator: ``epoch`` and some of
        ``train_loss``, ``valid_loss``, ``objective`` (what an adaptation method adds to
        the loss), ``train_accuracy``, ``valid_accuracy``, ``lr`` (the highest learning
        rate of the epoch) and ``boundary``.
    best_epoch : int, default=None
        Best epoch of the trial of early stopping, which gets a dotted line.

    Attributes
    ----------
    history : pandas.DataFrame
    best_epoch : int or None
    phases : list of tuple (int, int, str)
        Phases of gradual unfreezing: the first and the last epoch, and the boundary up
        to which stages were frozen.
    trial_end : int or None
        Last epoch of the trial of early stopping, which chooses the number of epochs of
        the training on all samples.
    axes_ : dict of str to matplotlib.axes.Axes
        Axes by what they show: ``"loss"``, ``"accuracy"`` and ``"lr"``.
    ax_ : matplotlib.axes.Axes
        Axes of the losses.
    figure_ : matplotlib.figure.Figure
    lines_ : dict of str to matplotlib.lines.Line2D
        Lines by the column of the history.

    See Also
    --------
    FreezeDepthDisplay : Results of a search over the depth.

    Examples
    --------
    >>> import pandas as pd
    >>> from sktransfer.inspection import TrainingHistoryDisplay
    >>> history = pd.DataFrame({"epoch": [1, 2], "train_loss": [0.9, 0.4]})
    >>> display = TrainingHistoryDisplay(history).plot()
    >>> display.lines_["train_loss"].get_ydata().tolist()
    [0.9, 0.4]
    """

    def __init__(self, history: pd.DataFrame, *, best_epoch: int | None = None):
        self.history = history
        self.best_epoch = best_epoch
        self.phases = _phases(history)
        self.trial_end = _trial_end(history)

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None
    ) -> TrainingHistoryDisplay:
        """Draw the training of a fitted estimator.

        Parameters
        ----------
        estimator : FineTunedClassifier, FineTunedRegressor or meta-estimator of one
            Fitted estimator of which stages were trained. Searches and the estimators
            of :mod:`sktransfer.adaptation` are among the meta-estimators.
        ax : matplotlib.axes.Axes or sequence of them, default=None
            As in :meth:`plot`.

        Returns
        -------
        TrainingHistoryDisplay

        Raises
        ------
        TypeError
            If the estimator is not trained in epochs.
        ValueError
            If its head was solved in one step, as with ``freeze="all"``.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        check_is_fitted(estimator)
        trained = fitted_reader(estimator)
        history = getattr(trained, "history_", None)
        if history is None:
            raise TypeError(
                "`estimator` must be one that trains stages, such as a "
                f"FineTunedClassifier. Got a {type(trained).__name__}, which trains "
                "nothing."
            )
        if "lr" not in history:
            raise ValueError(
                "The training of `estimator` must have epochs. Got one whose head was "
                "solved in one step, as nothing else was trained: freeze fewer stages "
                f"than {trained.freeze_depth_}."
            )
        best = getattr(trained, "best_epoch_", None)
        return cls(history, best_epoch=best).plot(ax)

    def plot(self, ax: Any = None) -> TrainingHistoryDisplay:
        """Draw a panel each for the losses, the accuracies and the learning rate.

        Vertical lines separate the phases of gradual unfreezing, and a dotted one marks
        the best epoch of early stopping. A dashed line is the end of its trial.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or sequence of them, default=None
            Axes of the losses, or of as many panels as are to be drawn, in this order.
            By default those of a new figure.

        Returns
        -------
        TrainingHistoryDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there are more axes than panels.
        """
        shown = {
            name: [column for column in columns if column in self.history]
            for name, (_, _, columns) in _PANELS.items()
        }
        shown = {name: columns for name, columns in shown.items() if columns}
        heights = [_PANELS[name][1] for name in shown]
        heights[-1] += 0.5  # for the labels below the last panel
        axes = panels(ax, heights, feature=type(self).__name__)
        self.axes_ = dict(zip(shown, axes, strict=False))
        self.ax_, self.figure_ = axes[0], axes[0].figure
        self.lines_: dict = {}
        for name, panel in self.axes_.items():
            self._draw(panel, name, shown[name])
        if "accuracy" in self.axes_:
            self.axes_["accuracy"].yaxis.set_major_formatter("{x:.0%}")
        self._name_phases()
        legend(self.ax_)
        self.figure_.align_ylabels(axes)
        axes[-1].set_xlabel("epoch")
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
        return self

    def _draw(self, ax, name, columns):
        """Draw the columns of a panel, and the vertical lines."""
        label, _, labels = _PANELS[name]
        known = [*labels]
        for column in columns:
            look = {**style(known.index(column)), "label": labels[column]}
            self.lines_[column] = ax.plot(
                self.history["epoch"], self.history[column], markersize=3, **look
            )[0]
        ax.set_ylabel(label)
        if name == "lr":
            ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        for first, _, _ in self.phases[1:]:
            ax.axvline(first - 0.5, color="gray", linewidth=0.8)
        if self.trial_end is not None:
            look = {"color": "black", "linestyle": "--", "linewidth": 0.8}
            ax.axvline(self.trial_end + 0.5, **look, label="end of the trial")
        if self.best_epoch is not None:
            ax.axvline(
                self.best_epoch, color="black", linestyle=":", label="best epoch"
            )

    def _name_phases(self):
        """Set the title, and name what is frozen above each phase."""
        if not self.phases:
            self.ax_.set_title("Training")
            return
        self.ax_.set_title("Training; last frozen stage of each phase:", pad=18)
        for first, last, name in self.phases:
            self.ax_.annotate(
                "none" if name == "input" else name,
                ((first + last) / 2, 1),
                (0, 3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize="small",
            )


def _phases(history):
    """Return the first and last epoch of each phase, and its boundary."""
    if "boundary" not in history:
        return []
    named = history.dropna(subset="boundary")
    is_new = named["boundary"].ne(named["boundary"].shift())
    if "is_trial" in named:
        is_trial = named["is_trial"].eq(True)
        is_new |= is_trial.ne(is_trial.shift(fill_value=is_trial.iloc[0]))
    number = is_new.cumsum()
    return [
        (int(part["epoch"].iloc[0]), int(part["epoch"].iloc[-1]), name)
        for (_, name), part in named.groupby([number, "boundary"], sort=False)
    ]


def _trial_end(history):
    """Return the last epoch of a trial, if there was one and epochs follow it."""
    if "is_trial" not in history:
        return None
    is_trial = history["is_trial"].eq(True)
    if is_trial.all() or not is_trial.any():
        return None
    return int(history["epoch"][is_trial].max())
