"""Where the style of an image goes, by how those of source and target are spread."""

import numpy as np

from sktransfer.adaptation._image_statistics import STATISTICS
from sktransfer.adaptation._lab import to_lab

__all__ = ["least_spoilt", "moved_colours", "moves_between"]

_LAB = "lightness", "green_red", "blue_yellow"
_COLOURS = [f"{channel}_{kind}" for kind in ("mean", "std") for channel in _LAB]
_AT = np.linspace(0, 1, 33)
# What is shown can look like blur, noise or blocks, but not like the lack of them. So
# a quarter of the images, those that show least of it, say what all of them have.
_LEAST = {"blur": 0.25, "noise": 0.25, "jpeg_quality": 0.75}


def least_spoilt(rows):
    """Return what nearly all images have of blur, noise and compression.

    Parameters
    ----------
    rows : ndarray of shape (n, n_statistics)
        Columns as in ``STATISTICS``.

    Returns
    -------
    dict of str to float
    """
    return {
        name: float(np.quantile(rows[:, STATISTICS.index(name)], at))
        for name, at in _LEAST.items()
    }


def moves_between(source, target, turned=False):
    """Return how far colours move from a source to a target, by where they are.

    Parameters
    ----------
    source, target : ndarray of shape (n, n_statistics)
        Columns as in ``STATISTICS``.
    turned : bool, default=False
        Whether light has become dark.

    Returns
    -------
    dict of str to (ndarray of shape (33,), ndarray of shape (33,))
        For the mean and standard deviation of each channel of CIELAB, quantiles of the
        source and what lies between them and those of the target.
    """
    found = {}
    for name in _COLOURS:
        own, other = (rows[:, STATISTICS.index(name)] for rows in (source, target))
        own = 100 - own if turned and name == "lightness_mean" else own
        own, other = (np.quantile(values, _AT) for values in (own, other))
        found[name] = own, other - own
    return found


def moved_colours(image, moves, turned=False):
    """Return where the colours of an image go.

    Parameters
    ----------
    image : PIL.Image.Image
        Of the source, in RGB.
    moves : dict
        From :func:`moves_between`.
    turned : bool, default=False
        Whether its light becomes dark.

    Returns
    -------
    dict of str to float
        Mean and standard deviation of each channel of CIELAB.
    """
    lab = to_lab(image).reshape(-1, 3)
    lab[:, 0] = 100 - lab[:, 0] if turned else lab[:, 0]
    own = [*lab.mean(axis=0), *lab.std(axis=0)]
    found = {n: v + np.interp(v, *moves[n]) for n, v in zip(_COLOURS, own, strict=True)}
    return {n: max(0.0, v) if n.endswith("std") else v for n, v in found.items()}
