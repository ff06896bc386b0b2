"""Axes, colours and labels that the displays share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sktransfer.utils import import_optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The palette of Okabe and Ito (2008), which people with any colour vision can tell
# apart, from the darkest to the palest; https://jfly.uni-koeln.de/color/
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
_SHORT = 2  # characters of names that need no slope
WIDTH = 4.8  # inches, so that text remains readable at the width of one column


def style(number: int) -> dict[str, Any]:
    """Return colour and marker of a line or group, which differ in both."""
    return {
        "color": COLORS[number % len(COLORS)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def panels(ax: Any, heights: Sequence[float], *, feature: str) -> list[Any]:
    """Return the axes to draw in, one below the other.

    By default they are those of a new figure, which share the horizontal axis and have
    these heights in inches. Given axes may be fewer: what has no axes is not drawn.
    """
    if ax is None:
        plt = import_optional("matplotlib.pyplot", feature=feature, extra="plot")
        _, made = plt.subplots(
            len(heights),
            sharex=True,
            squeeze=False,
            height_ratios=list(heights),
            figsize=(WIDTH, sum(heights)),
            layout="constrained",
        )
        return [*made[:, 0]]
    given = np.ravel(np.asarray(ax, dtype=object)).tolist()
    if not 1 <= len(given) <= len(heights):
        raise ValueError(
            f"`ax` of {feature} must be one Axes or up to {len(heights)} of them, one "
            f"per panel. Got {len(given)}."
        )
    return given


def name_stages(ax: Axes, names: Sequence[str]) -> None:
    """Name the positions 0, 1, … of the horizontal axis after stages."""
    ax.set_xticks(np.arange(len(names)), names)
    if max(map(len, names), default=0) > _SHORT:
        for label in ax.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")


def legend(ax: Any, **settings: Any) -> None:
    """Add a legend, if there is more than one thing to tell apart."""
    handles, _ = ax.get_legend_handles_labels()
    if len(handles) > 1:
        tight = {"borderaxespad": 0.3, "handletextpad": 0.4, "handlelength": 1.5}
        ax.legend(fontsize="small", frameon=False, **tight, **settings)
