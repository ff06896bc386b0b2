"""How noisy an image is: from what a Laplacian leaves where it is smooth."""

import numpy as np
from scipy import ndimage

from sktransfer.adaptation._lab import LUMA, luma_of, to_lab

__all__ = ["add_noise", "estimate_noise", "noise_in_lab", "noise_of_luma"]

# Blind to constants, slopes and edges along the axes; its squares sum to 36.
_MASK = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32)
_NORM = 6 * 0.6745  # from the median of absolute values to a standard deviation
_SMOOTH = 0.3  # share of the pixels that is looked at
_FEWEST = 16
_LUMA_SQUARES = float(LUMA @ LUMA)


def estimate_noise(pixels):
    """Estimate the standard deviation of white noise, in grey levels.

    Immerkær's mask, and the median of what it leaves in the smoothest 30% of the
    image, so that texture does not count. Black and white pixels, which hide noise, are
    left out.

    Parameters
    ----------
    pixels : uint8 array of shape (h, w, 3)

    Returns
    -------
    sigma : float
        Of one channel, in levels of 255. 0 for images too small to tell.
    shared : float
        Correlation of the noise between channels: 1 if it is grey.

    References
    ----------
    J. Immerkær (1996). Fast Noise Variance Estimation. Computer Vision and Image
    Understanding 64(2).
    """
    channels = np.moveaxis(np.asarray(pixels, dtype=np.float32), -1, 0)
    sigma = float(np.mean([_sigma(channel) for channel in channels]))
    if sigma == 0:
        return 0.0, 1.0
    ratio = (_sigma(luma_of(pixels)) / sigma) ** 2
    shared = (ratio - _LUMA_SQUARES) / (1 - _LUMA_SQUARES)
    return sigma, float(np.clip(shared, 0, 1))


def _sigma(y):
    """Return the noise of one channel of shape (h, w)."""
    left = np.abs(ndimage.convolve(y, _MASK))
    slope = ndimage.gaussian_gradient_magnitude(y, 1.5)
    free = (ndimage.minimum_filter(y, 3) > 0) & (ndimage.maximum_filter(y, 3) < 255)
    if free.sum() < _FEWEST:
        return 0.0
    smooth = free & (slope <= np.quantile(slope[free], _SMOOTH))
    return float(np.median(left[smooth]) / _NORM)


def noise_of_luma(sigma, shared):
    """Return the standard deviation of the noise in the luma (float)."""
    return sigma * np.sqrt(_LUMA_SQUARES + shared * (1 - _LUMA_SQUARES))


def noise_in_lab(sigma, shared, pixel):
    """Return what noise adds to the spread of L*, a* and b* around a colour.

    Parameters
    ----------
    sigma, shared : float
        See :func:`estimate_noise`.
    pixel : array of shape (3,)
        The colour, as RGB in [0, 255].

    Returns
    -------
    ndarray of shape (3,)
        Variances, to first order.
    """
    steps = np.asarray(pixel, dtype=np.float32) + np.eye(3, dtype=np.float32)
    slopes = (to_lab(steps) - to_lab(pixel)).astype(np.float64).T  # (lab, rgb)
    correlation = (1 - shared) * np.eye(3) + shared
    return sigma**2 * np.diag(slopes @ correlation @ slopes.T)


def add_noise(pixels, sigma, shared, draw):
    """Add white noise.

    Parameters
    ----------
    pixels : float array of shape (h, w, 3)
    sigma, shared : float
        See :func:`estimate_noise`.
    draw : callable
        From a shape to standard normal values.

    Returns
    -------
    float array of shape (h, w, 3)
        Not clipped.
    """
    common, own = draw((*pixels.shape[:2], 1)), draw(pixels.shape)
    return pixels + sigma * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)
