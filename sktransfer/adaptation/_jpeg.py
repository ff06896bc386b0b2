"""The quality that an image was compressed with as a JPEG."""

import io

import numpy as np
from PIL import Image
from scipy.fft import dctn

__all__ = ["compress", "quality_of_pixels", "quality_of_tables"]

# The luminance table of the JPEG standard (ITU-T T.81, table K.1), by rows.
_STANDARD = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
).ravel()
_QUALITIES = np.arange(1, 101)
_FINEST = 3  # steps below this drown in the rounding of pixels
_FEWEST = 32
_CERTAIN = 0.4


def _tables():
    """Return libjpeg's luminance tables of all qualities, of shape (100, 64)."""
    low, high = 5000 // _QUALITIES, 200 - 2 * _QUALITIES
    scale = np.where(_QUALITIES < 50, low, high)
    return np.clip((np.outer(scale, _STANDARD) + 50) // 100, 1, 255)


def quality_of_tables(tables):
    """Return the quality that quantisation tables stand for.

    Parameters
    ----------
    tables : dict of int to list of int
        ``quantization`` of an image that Pillow opened; table 0 is that of the
        luminance.

    Returns
    -------
    int
        In [1, 100], as libjpeg counts; of other encoders' tables the one with the
        nearest.
    """
    found = np.sort(np.asarray(tables[0]).ravel())  # in any order of coefficients
    known = np.sort(_tables(), axis=1)
    return int(_QUALITIES[np.abs(np.log(known / found)).sum(axis=1).argmin()])


def quality_of_pixels(luma):
    """Find the quality of the compression that left its traces in pixels.

    After compression, the cosine coefficients of blocks of 8 x 8 pixels lie near the
    multiples of the steps of a quantisation table. The quality is the one with the
    table to which they lie nearest.

    Parameters
    ----------
    luma : float array of shape (h, w)
        In [0, 255]. The blocks begin in its first row and column.

    Returns
    -------
    int
        In [1, 100]; 100 if there is no trace, as of images that were compressed
        hardly or not at all, were resized since, or are small.

    References
    ----------
    Z. Fan, R. de Queiroz (2003). Identification of Bitmap Compression History: JPEG
    Detection and Quantizer Estimation. IEEE Transactions on Image Processing 12(2).
    """
    coefficients = _coefficients(luma)[:, 1:]  # without the blocks' means
    nearness = [_nearness(coefficients, table[1:]) for table in _tables()]
    best = int(np.argmax(nearness))
    return int(_QUALITIES[best]) if nearness[best] > _CERTAIN else 100


def _coefficients(luma):
    h, w = (length // 8 for length in luma.shape)
    blocks = luma[: 8 * h, : 8 * w].reshape(h, 8, w, 8).swapaxes(1, 2)
    return dctn(blocks, axes=(2, 3), norm="ortho").reshape(-1, 64)


def _nearness(coefficients, table):
    """Return 1 for multiples of the table's steps, and about 0 for anything."""
    used = table >= _FINEST
    multiples = coefficients[:, used] / table[used]
    nearest = np.round(multiples)
    off = np.abs(multiples - nearest)[nearest != 0]
    return 1 - 4 * off.mean() if len(off) >= _FEWEST else 0.0


def compress(pixels, quality):
    """Compress an image as a JPEG, and open it again.

    Parameters
    ----------
    pixels : uint8 array of shape (h, w, 3)
    quality : int
        In [1, 100].

    Returns
    -------
    uint8 array of shape (h, w, 3)
    """
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))
