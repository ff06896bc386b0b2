"""Display of explanations: heat maps over images, and marked tokens of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sktransfer.inspection._explain import Explanation, explain
from sktransfer.inspection._figures import WIDTH
from sktransfer.utils import import_optional, types

_N_COLUMNS = 3  # of images
_NAMES = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "integrated_gradients": "Integrated gradients",
    "occlusion": "Occlusion",
    "rollout": "Attention rollout",
}
_SIGNED = "RdBu_r"  # red and blue, which people with any colour vision can tell apart
_POSITIVE = "magma"
_FONT = 8  # points
_ADVANCE = 0.602 * _FONT  # points, width of a character of the monospaced font
_LINE = 1.7 * _FONT  # points, height of a line
_MARGIN = 4  # points
_TOP = 30  # points above a text, for its title


class ExplanationDisplay:
    """Display of explanations of predictions.

    Images are shown in gray below their heat map, and texts with a background colour
    for each token: red parts speak for the target, and blue ones against it. It is
    recommended to use :meth:`from_estimator`.

    Parameters
    ----------
    explanations : sequence of Explanation
        From :func:`explain`.

    Attributes
    ----------
    explanations : list of Explanation
    axes_ : ndarray of matplotlib.axes.Axes, shape (n_rows, n_columns)
    figure_ : matplotlib.figure.Figure
    maps_ : list of matplotlib.image.AxesImage
        The heat maps of images.
    texts_ : list of list of matplotlib.text.Text
        The tokens of texts.

    See Also
    --------
    explain : Computes explanations.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.inspection import Explanation, ExplanationDisplay
    >>> explanation = Explanation(
    ...     np.array([0.0, 0.9, -0.2]), "integrated_gradients", "good", 1.2,
    ...     shown="a fine film", tokens=["a", "fine", "film"],
    ... )
    >>> (tokens,) = ExplanationDisplay([explanation]).plot().texts_
    >>> [token.get_text() for token in tokens]
    ['a', 'fine', 'film']
    """

    def __init__(self, explanations: Sequence[Explanation]):
        self.explanations = [*explanations]

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: types.Samples, *, ax: Any = None, **options: Any
    ) -> ExplanationDisplay:
        """Explain predictions and draw the explanations.

        Parameters
        ----------
        estimator : fitted estimator
            As in :func:`explain`.
        X : array-like of n_samples
            Samples, as in `fit`.
        ax : array-like of matplotlib.axes.Axes, default=None
            As in :meth:`plot`.
        **options
            Further parameters of :func:`explain`.

        Returns
        -------
        ExplanationDisplay
        """
        return cls(explain(estimator, X, **options)).plot(ax)

    def plot(self, ax: Any = None, *, alpha: float = 0.6) -> ExplanationDisplay:
        """Draw one panel per explanation, titled with its target.

        Colours of images are scaled to the 99th percentile of the absolute values of
        each, and colours of texts to their maximum.

        Parameters
        ----------
        ax : array-like of matplotlib.axes.Axes, default=None
            One per explanation; others stay empty. By default those of a new figure.
        alpha : float, default=0.6
            Opacity of the heat maps.

        Returns
        -------
        ExplanationDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there are fewer axes than explanations.
        """
        axes = self._new_axes() if ax is None else np.asarray(ax, dtype=object)
        self.axes_ = np.atleast_2d(axes)
        n = len(self.explanations)
        if self.axes_.size < n:
            raise ValueError(
                f"`ax` must hold one Axes per explanation, {n}. Got {self.axes_.size}."
            )
        self.figure_ = self.axes_.flat[0].figure
        self.maps_: list = []
        self.texts_: list = []
        for panel in self.axes_.flat[n:]:
            panel.set_axis_off()
        for panel, explanation in zip(self.axes_.flat, self.explanations, strict=False):
            self._draw(panel, explanation, alpha)
            panel.set_title(_title(explanation), fontsize="small", loc="left")
        if ax is None and n:
            self.figure_.suptitle(self._heading(), fontsize="medium")
        return self

    def _heading(self):
        name = _NAMES[self.explanations[0].method]
        is_signed = any(e.values.min() < 0 for e in self.explanations)
        return f"{name} (red: for it, blue: against)" if is_signed else name

    def _new_axes(self):
        feature = type(self).__name__
        plt = import_optional("matplotlib.pyplot", feature=feature, extra="plot")
        n = max(1, len(self.explanations))
        heights = [_TOP + _height(e) for e in self.explanations if e.tokens is not None]
        if heights:
            size = (WIDTH, (sum(heights) + _TOP) / 72)
            layout = {"height_ratios": heights, "squeeze": False}
            return plt.subplots(n, 1, figsize=size, layout="constrained", **layout)[1]
        n_columns = min(n, _N_COLUMNS)
        n_rows = -(-n // n_columns)
        aspect = max((_aspect(e) for e in self.explanations), default=1.0)
        height = 0.35 + n_rows * (0.9 * aspect * WIDTH / n_columns + 0.3)
        size = (WIDTH, height)
        layout = {"squeeze": False, "layout": "constrained"}
        return plt.subplots(n_rows, n_columns, figsize=size, **layout)[1]

    def _draw(self, ax, explanation, alpha):
        ax.set(xticks=[], yticks=[])
        if explanation.tokens is not None:
            self.texts_.append(_draw_text(ax, explanation))
        elif explanation.seen is not None:
            self.maps_.append(_draw_image(ax, explanation, alpha))
        elif explanation.values.ndim == 2:
            look = _scale(explanation.values)
            values = explanation.values.T  # (frequency, time)
            drawn = ax.imshow(values, aspect="auto", origin="lower", **look)
            self.maps_.append(drawn)
            ax.set(xlabel="time", ylabel="frequency")
        else:
            values = explanation.values.ravel()
            ax.bar(np.arange(len(values)), values, color="#0072B2")
            ax.axhline(0, color="black", linewidth=0.5)


def _aspect(explanation):
    """Return the height of a panel relative to its width."""
    if explanation.seen is None:
        return 0.6
    height, width = explanation.values.shape
    return min(height / width, 2.0)


def _title(explanation):
    return f"{explanation.target} ({explanation.score:+.2f})"


def _scale(values):
    """Return colour map and limits; values are signed if some are negative."""
    size = np.abs(values)
    most = float(np.percentile(size, 99)) or float(size.max()) or 1.0
    if values.min() < 0:
        return {"cmap": _SIGNED, "vmin": -most, "vmax": most}
    return {"cmap": _POSITIVE, "vmin": 0, "vmax": most}


def _draw_image(ax, explanation, alpha):
    """Draw an image in gray below its map, and the box that the network saw."""
    values, (top, left, bottom, right) = explanation.values, explanation.seen
    gray = np.asarray(explanation.shown, dtype=float) @ [0.299, 0.587, 0.114]
    ax.imshow(gray, cmap="gray", vmin=0, vmax=255)
    if (top, left, bottom, right) != (0, 0, *values.shape):
        ax.add_patch(_box(left, top, right - left, bottom - top))
        is_outside = np.ones(values.shape, dtype=bool)
        is_outside[top:bottom, left:right] = False
        values = np.ma.array(values, mask=is_outside)
    return ax.imshow(values, alpha=alpha, **_scale(explanation.values))


def _box(left, top, width, height):
    from matplotlib.patches import Rectangle

    look = {"fill": False, "edgecolor": "white", "linestyle": "--", "linewidth": 0.8}
    return Rectangle((left - 0.5, top - 0.5), width, height, **look)


def _lines(tokens, width):
    """Return (text, column, line) of each token, broken at a width in characters."""
    places, column, line = [], 0, 0
    for token in tokens:
        starts_word = not token.startswith("##")
        text = token.removeprefix("##").replace("▁", "").replace("Ġ", "") or " "
        column += 1 if starts_word and column else 0
        if column and column + len(text) > width:
            column, line = 0, line + 1
        places.append((text, column, line))
        column += len(text)
    return places


def _width():
    return int((WIDTH * 72 - 4 * _MARGIN) / _ADVANCE)


def _height(explanation):
    """Return the height of a text in points."""
    *_, (_, _, last) = _lines(explanation.tokens, _width()) or [("", 0, 0)]
    return (last + 1) * _LINE + 2 * _MARGIN


def _draw_text(ax, explanation):
    """Draw the tokens with their background colours (list of Text)."""
    from matplotlib import colormaps

    ax.set_axis_off()
    most = float(np.abs(explanation.values).max()) or 1.0
    drawn = []
    for (text, column, line), value in zip(
        _lines(explanation.tokens, _width()), explanation.values, strict=True
    ):
        color = colormaps[_SIGNED](0.5 + 0.25 * value / most)  # pale enough for text
        drawn.append(
            ax.annotate(
                text,
                (0, 1),
                (_MARGIN + column * _ADVANCE, -_MARGIN - line * _LINE),
                xycoords="axes fraction",
                textcoords="offset points",
                va="top",
                family="monospace",
                fontsize=_FONT,
                bbox={"facecolor": color, "edgecolor": "none", "pad": 1.0},
            )
        )
    return drawn
