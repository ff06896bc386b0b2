"""Where the style of an image goes, by how those of source and target are spread."""

import numpy as np

from sktransfer.adaptation._image_statistics import STATISTICS
from sktransfer.adaptation._lab import CHANNELS

__all__ = ["least_spoilt", "moved", "moves_between"]

_MOVED = [
    *(f"{channel}_{kind}" for kind in ("mean", "std") for channel in CHANNELS),
    "side",
]
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
    """Return how far colours and sizes move from a source to a target.

    Parameters
    ----------
    source, target : ndarray of shape (n, n_statistics)
        Columns as in ``STATISTICS``.
    turned : bool, default=False
        Whether light has become dark.

    Returns
    -------
    dict of str to (ndarray of shape (m,), ndarray of shape (m,))
        For the mean and standard deviation of each channel of CIELAB, and the shorter
        side, quantiles of the source and what lies between them and the target's.
    """
    found = {}
    for name in _MOVED:
        own, other = (rows[:, STATISTICS.index(name)] for rows in (source, target))
        own = 100 - own if turned and name == "lightness_mean" else own
        own, other = (np.quantile(values, _AT) for values in (own, other))
        different, group = np.unique(own, return_inverse=True)
        between = np.bincount(group, weights=other - own) / np.bincount(group)
        found[name] = different, between
    return found


def moved(lab, moves):
    """Return where the colours and the size of an image go.

    Parameters
    ----------
    lab : ndarray of shape (h, w, 3)
        An image of the source in CIELAB, turned if the moves are.
    moves : dict
        From :func:`moves_between`.

    Returns
    -------
    dict of str to float
        Mean and standard deviation of each channel, and the shorter side in pixels.
    """
    own = [*lab.mean(axis=(0, 1)), *lab.std(axis=(0, 1)), min(lab.shape[:2])]
    found = {n: v + np.interp(v, *moves[n]) for n, v in zip(_MOVED, own, strict=True)}
    quantiles, between = moves["side"]
    smallest = quantiles[0] + between[0]  # of the target
    least = {"side": smallest, **{n: 0.0 for n in found if n.endswith("std")}}
    return {n: max(least.get(n, v), v) for n, v in found.items()}
