"""Display of the gap between two domains, stage by stage."""

import numpy as np
import pandas as pd

from sktransfer.adaptation._gap import domain_gap
from sktransfer.utils import import_optional

__all__ = ["GapDisplay"]

_LABELS = {"a_distance": "Proxy A-distance", "mmd2": "Squared MMD"}
_CERTAIN = 0.05


class GapDisplay:
    """Display of how different two domains are to the stages of a network.

    Parameters
    ----------
    stages : sequence of str of length n_stages, or pandas.DataFrame
        Names; or what :func:`domain_gap` returned, also after it was written to a file
        and read again: the names are then the column ``stage`` or, without one, the
        index.
    a_distance, mmd2, p_value : array-like of shape (n_stages,), default=None
        See :func:`domain_gap`. Of a table, its columns. What is None is not drawn;
        without `p_value` all bars are opaque.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
    bars_ : matplotlib.container.BarContainer
        One bar per stage.

    See Also
    --------
    domain_gap : Computes the numbers.

    Examples
    --------
    >>> from sktransfer.adaptation import GapDisplay
    >>> stages = ["stem", "layer1"]
    >>> display = GapDisplay(
    ...     stages, a_distance=[0.4, 1.8], mmd2=[0.01, 0.2], p_value=[0.2, 0.005]
    ... )
    >>> display.plot().ax_.get_ylabel()
    'Proxy A-distance'
    """

    def __init__(self, stages, *, a_distance=None, mmd2=None, p_value=None):
        columns = {"a_distance": a_distance, "mmd2": mmd2, "p_value": p_value}
        if isinstance(stages, pd.DataFrame):
            columns |= {name: stages[name] for name in columns if name in stages}
            stages = stages["stage"] if "stage" in stages else stages.index
        self.stages = [str(stage) for stage in stages]
        self.a_distance, self.mmd2, self.p_value = (
            _numbers(name, column, len(self.stages)) for name, column in columns.items()
        )

    @classmethod
    def from_gaps(cls, gaps, *, metric="a_distance", ax=None):
        """Draw what :func:`domain_gap` returned.

        Parameters
        ----------
        gaps : pandas.DataFrame
        metric : {"a_distance", "mmd2"}, default="a_distance"
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default a new figure.

        Returns
        -------
        GapDisplay
        """
        return cls(gaps).plot(ax=ax, metric=metric)

    @classmethod
    def from_estimator(
        cls,
        extractor,
        X_source,
        X_target,
        *,
        n_permutations=200,
        max_samples=1000,
        random_state=None,
        metric="a_distance",
        ax=None,
    ):
        """Measure the gap and draw it.

        Parameters
        ----------
        extractor : PretrainedFeatureExtractor
        X_source, X_target : array-like of n_samples
        n_permutations : int, default=200
        max_samples : int, default=1000
        random_state : int, RandomState instance or None, default=None
            As in :func:`domain_gap`.
        metric : {"a_distance", "mmd2"}, default="a_distance"
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default a new figure.

        Returns
        -------
        GapDisplay
        """
        gaps = domain_gap(
            extractor,
            X_source,
            X_target,
            n_permutations=n_permutations,
            max_samples=max_samples,
            random_state=random_state,
        )
        return cls.from_gaps(gaps, metric=metric, ax=ax)

    def plot(self, ax=None, *, metric="a_distance"):
        """Draw a bar per stage, opaque where the domains differ (p < 0.05), else pale.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default a new figure.
        metric : {"a_distance", "mmd2"}, default="a_distance"

        Returns
        -------
        GapDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no such metric, or no numbers of it.
        """
        if metric not in _LABELS:
            raise ValueError(f"`metric` must be one of {[*_LABELS]}. Got {metric!r}.")
        heights = getattr(self, metric)
        if heights is None:
            raise ValueError(
                f"`metric` must be one that there are numbers of. Got {metric!r}, of "
                f"which GapDisplay was given none. Pass `{metric}`, or a table with "
                "this column."
            )
        plt = import_optional("matplotlib.pyplot", feature="GapDisplay", extra="plot")
        if ax is None:
            _, ax = plt.subplots()
        positions = np.arange(len(self.stages))
        self.bars_ = ax.bar(positions, heights)
        p_values = np.zeros(len(heights)) if self.p_value is None else self.p_value
        for bar, p in zip(self.bars_, p_values, strict=True):
            bar.set_alpha(1.0 if p < _CERTAIN else 0.3)
        ax.set_xticks(positions, self.stages, rotation=45, ha="right")
        ax.set(xlabel="Stage", ylabel=_LABELS[metric])
        if metric == "a_distance":
            ax.set_ylim(np.nanmin([0, *heights]), 2)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _numbers(name, column, n_stages):
    """Return a column as a float ndarray of shape (n_stages,), or None."""
    if column is None:
        return None
    try:
        numbers = np.asarray(column, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be numbers. Got {column!r}.") from error
    if numbers.shape != (n_stages,):
        raise ValueError(
            f"`{name}` must have one number per stage, so the shape ({n_stages},). "
            f"Got {numbers.shape}."
        )
    return numbers
