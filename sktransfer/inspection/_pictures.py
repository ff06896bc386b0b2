"""Samples for people: images as pictures, recordings as curves, texts as text."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sktransfer.inputs import Waveform

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_THUMBNAIL = 128  # px of the longer side
_LONGEST = 170  # characters of a text that are shown


def picture(samples: Any, i: int, size: int | None = _THUMBNAIL) -> Any:
    """Return sample `i` for showing it.

    It is an array (h, w, 3) of an image, at most `size` px high and wide; an array (t,)
    of a recording; and otherwise a str.
    """
    sample = samples[i]
    if isinstance(sample, Image.Image):
        if size is not None:
            sample = sample.copy()
            sample.thumbnail((size, size))
        return np.asarray(sample)
    if isinstance(sample, str):
        return sample
    if isinstance(sample, Waveform):
        return sample.values
    if isinstance(sample, tuple) and all(isinstance(part, str) for part in sample):
        return " / ".join(sample)
    return samples.describe(i)


def show(ax: Axes, shown: Any, width: int = 24) -> None:
    """Draw what `picture` returned, without ticks; `width` is in characters."""
    ax.set(xticks=[], yticks=[])
    if isinstance(shown, str):
        short = textwrap.shorten(shown, _LONGEST, placeholder=" …") or "(empty)"
        text = textwrap.fill(short, width)
        ax.text(0.03, 0.95, text, va="top", fontsize="small", transform=ax.transAxes)
    elif shown.ndim == 1:
        ax.plot(shown, color="black", linewidth=0.5)
    else:
        smooth = max(shown.shape[:2]) >= _THUMBNAIL // 2
        ax.imshow(shown, interpolation="antialiased" if smooth else "nearest")
