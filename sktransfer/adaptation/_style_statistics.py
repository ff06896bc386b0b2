"""Statistics of the styles of two sets of images, and maps between them."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from sktransfer.adaptation._image_statistics import (
    CHANNELS,
    STATISTICS,
    image_statistics,
    jpeg_quality,
)
from sktransfer.inputs import Samples, as_samples

IMAGES = SimpleNamespace(kind="image")  # in place of a preprocessing
Moves = dict[str, tuple[np.ndarray, np.ndarray]]  # quantiles and distances
_QUALITY = STATISTICS.index("jpeg_quality")
_MOVED = [
    *(f"{channel}_{kind}" for kind in ("mean", "std") for channel in CHANNELS),
    "side",
]
_AT = np.linspace(0, 1, 33)
# The content of an image can look like blur, noise or JPEG blocks, but not like their
# absence. So the quarter of the images with the least of each stands for all images.
_LEAST = {"blur": 0.25, "noise": 0.25, "jpeg_quality": 0.75}


def some_images(X: Any, n_most: int, **reading: Any) -> Samples:
    """Return at most `n_most` samples of X, evenly spread.

    `reading` are the options `image_shape` and `value_range` of
    :func:`sktransfer.inputs.as_samples`.
    """
    samples = X if isinstance(X, Samples) else as_samples(X, IMAGES, **reading)
    n = min(len(samples), n_most)
    return samples.take(np.linspace(0, len(samples) - 1, n).round().astype(int))


def measure(samples: Samples) -> np.ndarray:
    """Return the ``STATISTICS`` of images, float64, with one row per image.

    The JPEG quality is read from the files.
    """
    n = len(samples)
    rows = np.array([[*image_statistics(samples[i]).values()] for i in range(n)])
    rows[:, _QUALITY] = [jpeg_quality(samples.encoded(i)) for i in range(n)]
    return rows


def typical_quality(rows: np.ndarray) -> dict[str, float]:
    """Return the blur, noise and JPEG compression that most images have at least.

    Three quarters of the images have at least this blur, at least this noise and at
    most this JPEG quality. Each row holds the ``STATISTICS`` of an image.
    """
    return {
        name: float(np.quantile(rows[:, STATISTICS.index(name)], at))
        for name, at in _LEAST.items()
    }


def moves_between(
    source: np.ndarray, target: np.ndarray, swapped: bool = False
) -> Moves:
    """Return by how much colours and sizes differ between domains, by quantiles.

    Each row holds the ``STATISTICS`` of an image. The result has, for the mean and
    standard deviation of each CIELAB channel and for the shorter side, the distinct
    quantiles of the source and their distances to the quantiles of the target. With
    `swapped`, light and dark of the source are swapped before.
    """
    found = {}
    for name in _MOVED:
        own, other = (rows[:, STATISTICS.index(name)] for rows in (source, target))
        own = 100 - own if swapped and name == "lightness_mean" else own
        own, other = (np.quantile(values, _AT) for values in (own, other))
        distinct, group = np.unique(own, return_inverse=True)
        distances = np.bincount(group, weights=other - own) / np.bincount(group)
        found[name] = distinct, distances
    return found


def moved(lab: np.ndarray, moves: Moves) -> dict[str, float]:
    """Return the colours and the size towards which a source image (h, w, 3) moves.

    These are the mean and standard deviation of each CIELAB channel, and the shorter
    side in pixels.
    """
    own = [*lab.mean(axis=(0, 1)), *lab.std(axis=(0, 1)), min(lab.shape[:2])]
    found = {n: v + np.interp(v, *moves[n]) for n, v in zip(_MOVED, own, strict=True)}
    quantiles, distances = moves["side"]
    smallest = quantiles[0] + distances[0]  # of the target
    least = {"side": smallest, **{n: 0.0 for n in found if n.endswith("std")}}
    return {n: max(least.get(n, v), v) for n, v in found.items()}
