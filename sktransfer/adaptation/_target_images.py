"""Statistics of a collection of images, measured on a part of them."""

from io import BytesIO
from types import SimpleNamespace

import numpy as np
from PIL import Image

from sktransfer.adaptation._image_statistics import STATISTICS, image_statistics
from sktransfer.adaptation._jpeg import quality_of_tables
from sktransfer.adaptation._lab import to_lab
from sktransfer.inputs import Samples, as_samples

__all__ = ["N_QUANTILES", "measure", "quantiles_of", "some_images", "thumbnails"]

N_QUANTILES = 33
_QUALITY = STATISTICS.index("jpeg_quality")
_JPEG = b"\xff\xd8"  # start of image
_ANY_IMAGES = SimpleNamespace(kind="image")


def some_images(X, n_most, **reading):
    """Return at most so many samples of X, evenly spread.

    Parameters
    ----------
    X : array-like of n_samples or Samples
        See :func:`sktransfer.inputs.as_samples`.
    n_most : int
    **reading
        ``image_shape`` and ``value_range``.

    Returns
    -------
    Samples
    """
    samples = X if isinstance(X, Samples) else as_samples(X, _ANY_IMAGES, **reading)
    n = min(len(samples), n_most)
    return samples.take(np.linspace(0, len(samples) - 1, n).round().astype(int))


def measure(samples):
    """Measure images; the quality of JPEG files is read from them.

    Parameters
    ----------
    samples : Samples

    Returns
    -------
    ndarray of shape (n_samples, n_statistics), float64
        Columns as in ``STATISTICS``.
    """
    rows = np.array([[*image_statistics(samples[i]).values()] for i in _all(samples)])
    for i in _all(samples):
        rows[i, _QUALITY] = _quality_of_file(samples.encoded(i), rows[i, _QUALITY])
    return rows


def _quality_of_file(content, otherwise):
    """Return the quality of a JPEG file, a path or bytes; of others what is given."""
    if content is None or (
        isinstance(content, bytes) and not content.startswith(_JPEG)
    ):
        return otherwise
    with Image.open(BytesIO(content) if isinstance(content, bytes) else content) as im:
        tables = getattr(im, "quantization", None)
    return quality_of_tables(tables) if tables else otherwise


def _all(samples):
    return range(len(samples))


def quantiles_of(samples):
    """Return evenly spaced quantiles of L*, a* and b* of images.

    Parameters
    ----------
    samples : Samples

    Returns
    -------
    ndarray of shape (n_samples, 3, 33), float32
    """
    at = np.linspace(0, 1, N_QUANTILES)
    found = [np.quantile(to_lab(samples[i]), at, axis=(0, 1)) for i in _all(samples)]
    return np.moveaxis(np.float32(found), 1, 2)


def thumbnails(samples, side):
    """Return images squeezed to squares (uint8 ndarray of shape (n, side, side, 3))."""
    size, how = (side, side), Image.Resampling.BILINEAR
    return np.stack([np.asarray(samples[i].resize(size, how)) for i in _all(samples)])
