"""Between pixels and CIELAB, in which distances are about as people see them."""

import numpy as np

__all__ = ["CHANNELS", "LUMA", "from_lab", "luma_of", "to_lab"]

CHANNELS = "lightness", "green_red", "blue_yellow"
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of JPEG: ITU-R BT.601
# ITU-R BT.709 primaries, each row divided by the white point D65.
_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_TO_XYZ /= _TO_XYZ.sum(axis=1, keepdims=True)
_FROM_XYZ = np.linalg.inv(_TO_XYZ)
_CORNER = 6 / 29
_SLOPE = 3 * _CORNER**2


def luma_of(pixels):
    """Return the grey level of each pixel.

    Parameters
    ----------
    pixels : array of shape (..., 3)
        RGB values in [0, 255].

    Returns
    -------
    float32 ndarray of shape (...)
        In [0, 255].
    """
    return np.asarray(pixels, dtype=np.float32) @ LUMA


def to_lab(pixels):
    """Convert sRGB to CIELAB under daylight (D65).

    Parameters
    ----------
    pixels : array of shape (..., 3)
        RGB values in [0, 255].

    Returns
    -------
    float32 ndarray of shape (..., 3)
        L* in [0, 100], a* and b*.
    """
    v = np.asarray(pixels, dtype=np.float32) / 255
    linear = np.where(v > 0.04045, ((v + 0.055) / 1.055) ** 2.4, v / 12.92)
    t = linear @ _TO_XYZ.T.astype(np.float32)
    f = np.where(t > _CORNER**3, np.cbrt(t), t / _SLOPE + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
    return lab.astype(np.float32)


def from_lab(lab):
    """Convert CIELAB to sRGB; what no screen shows is clipped.

    Parameters
    ----------
    lab : array of shape (..., 3)

    Returns
    -------
    float32 ndarray of shape (..., 3)
        RGB values in [0, 255], not rounded.
    """
    light, a, b = np.moveaxis(np.asarray(lab, dtype=np.float32), -1, 0)
    y = (light + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    t = np.where(f > _CORNER, f**3, _SLOPE * (f - 4 / 29))
    linear = np.clip(t @ _FROM_XYZ.T.astype(np.float32), 0, 1)
    curved = 1.055 * linear ** (1 / 2.4) - 0.055
    v = np.where(linear > 0.0031308, curved, 12.92 * linear)
    return (255 * v).astype(np.float32)
