"""Display of the gap between two domains, with one bar per stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sktransfer import PretrainedFeatureExtractor
from sktransfer.adaptation import domain_gap
from sktransfer.inspection._figures import COLORS, name_stages, panels
from sktransfer.utils import types

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_LABELS = {"a_distance": "Proxy A-distance", "mmd2": "Squared MMD"}
_CERTAIN = 0.05
_HEIGHT = 3.0  # inches


class GapDisplay:
    """Display of how much two domains differ at each stage of a network.

    Parameters
    ----------
    stages : sequence of str of length n_stages, or pandas.DataFrame
        Names of the stages, or a table of
        :func:`sktransfer.adaptation.domain_gap`. The names in a table are
        its column ``stage`` or, without this column, its index.
    a_distance, mmd2, p_value : array-like of shape (n_stages,), default=None
        Columns of that table; columns of a table take precedence. Columns that
        are None cannot be drawn; without `p_value`, all bars are opaque.

    Raises
    ------
    ValueError
        If a column does not hold one number per stage.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
    bars_ : matplotlib.container.BarContainer
        One bar per stage.

    See Also
    --------
    sktransfer.adaptation.domain_gap : Computes the gap.

    Examples
    --------
    >>> from sktransfer.inspection import GapDisplay
    >>> stages = ["stem", "layer1"]
    >>> display = GapDisplay(
    ...     stages, a_distance=[0.4, 1.8], mmd2=[0.01, 0.2], p_value=[0.2, 0.005]
    ... )
    >>> display.plot().ax_.get_ylabel()
    'Proxy A-distance'
    """

    def __init__(
        self,
        stages: pd.DataFrame | Sequence[str],
        *,
        a_distance: ArrayLike | None = None,
        mmd2: ArrayLike | None = None,
        p_value: ArrayLike | None = None,
    ):
        columns = {"a_distance": a_distance, "mmd2": mmd2, "p_value": p_value}
        if isinstance(stages, pd.DataFrame):
            columns |= {name: stages[name] for name in columns if name in stages}
            stages = stages["stage"] if "stage" in stages else stages.index
        self.stages = [str(stage) for stage in stages]
        self.a_distance, self.mmd2, self.p_value = (
            _numbers(name, column, len(self.stages)) for name, column in columns.items()
        )

    @classmethod
    def from_estimator(
        cls,
        extractor: PretrainedFeatureExtractor,
        X_source: types.Samples,
        X_target: types.Samples,
        *,
        metric: str = "a_distance",
        ax: Axes | None = None,
        **options: Any,
    ) -> GapDisplay:
        """Measure the gap and draw it.

        Parameters
        ----------
        extractor : PretrainedFeatureExtractor
            Extractor, fitted or not.
        X_source, X_target : array-like of n_samples
            Samples of the two domains.
        metric : {"a_distance", "mmd2"}, default="a_distance"
            Height of the bars.
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in; by default those of a new figure.
        **options
            Further parameters of :func:`sktransfer.adaptation.domain_gap`.

        Returns
        -------
        GapDisplay
        """
        gaps = domain_gap(extractor, X_source, X_target, **options)
        return cls(gaps).plot(ax, metric=metric)

    def plot(self, ax: Axes | None = None, *, metric: str = "a_distance") -> GapDisplay:
        """Draw one bar per stage, pale if the p-value is 0.05 or more.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Axes to draw in; by default those of a new figure.
        metric : {"a_distance", "mmd2"}, default="a_distance"
            Height of the bars.

        Returns
        -------
        GapDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `metric` is unknown, or its column is missing.
        """
        if metric not in _LABELS:
            raise ValueError(f"`metric` must be one of {[*_LABELS]}. Got {metric!r}.")
        heights = getattr(self, metric)
        if heights is None:
            raise ValueError(
                f"`metric` must be a column that GapDisplay was given. Got {metric!r}. "
                f"Pass `{metric}`, or a table with this column."
            )
        (ax,) = panels(ax, [_HEIGHT], feature=type(self).__name__)
        self.bars_ = ax.bar(np.arange(len(self.stages)), heights, color=COLORS[0])
        p_values = np.zeros(len(heights)) if self.p_value is None else self.p_value
        for bar, p in zip(self.bars_, p_values, strict=True):
            bar.set_alpha(1.0 if p < _CERTAIN else 0.3)
        name_stages(ax, self.stages)
        pale = "" if np.all(p_values < _CERTAIN) else f"\n(pale: p ≥ {_CERTAIN})"
        ax.set(
            xlabel="Stage",
            ylabel=_LABELS[metric],
            title=f"Gap between the domains{pale}",
        )
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
