"""How blurred an image is: from the energy of its gradients at several scales."""

import numpy as np
from scipy import ndimage

__all__ = ["add_blur", "estimate_blur"]

_SCALES = np.array([1.0, 2.0, 4.0])
_CANDIDATES = np.arange(0, 8.01, 0.05)
# Sharp edges far from each other have 0.5, noise-like textures 1.
_SLOPES = 0.4, 1.2


def estimate_blur(luma, noise=0.0):
    """Estimate the width of the Gaussian that an image was blurred with.

    The energy of gradients falls with the scale s that one looks at as a power of s² in
    sharp photographs, and as the same power of s² + blur² in blurred ones. The blur is
    the one for which the energies at three scales lie best on such a line.

    Parameters
    ----------
    luma : float array of shape (h, w)
        In [0, 255].
    noise : float, default=0.0
        Its standard deviation, of which the energy is subtracted.

    Returns
    -------
    float
        Standard deviation of the Gaussian in pixels, in [0, 8]; above 3 rather too low.
        0 for a flat image.
    """
    energies = np.array([_energy(luma, scale, noise) for scale in _SCALES])
    if energies.min() <= 1e-6:
        return 0.0
    x = np.log(_SCALES**2 + _CANDIDATES[:, None] ** 2)  # (candidates, scales)
    x -= x.mean(axis=1, keepdims=True)
    y = np.log(energies) - np.log(energies).mean()
    slope = np.clip(-(x @ y) / (x**2).sum(axis=1), *_SLOPES)
    misfit = ((y + slope[:, None] * x) ** 2).sum(axis=1)
    return float(_CANDIDATES[misfit.argmin()])


def _energy(luma, scale, noise):
    slopes = ndimage.gaussian_gradient_magnitude(luma, scale, truncate=3.0)
    return np.mean(slopes**2) - noise**2 / (4 * np.pi * scale**4)


def add_blur(pixels, sigma):
    """Blur an image.

    Parameters
    ----------
    pixels : float array of shape (h, w, 3)
    sigma : float
        Standard deviation of the Gaussian in pixels.

    Returns
    -------
    float array of shape (h, w, 3)
    """
    return ndimage.gaussian_filter(pixels, (sigma, sigma, 0))
