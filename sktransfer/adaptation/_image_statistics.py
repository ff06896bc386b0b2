"""What can be told about the style of an image without knowing what it shows."""

import numpy as np

from sktransfer.adaptation._blur import estimate_blur
from sktransfer.adaptation._jpeg import quality_of_pixels
from sktransfer.adaptation._lab import CHANNELS, luma_of, to_lab
from sktransfer.adaptation._noise import estimate_noise, noise_of_luma

__all__ = [
    "STATISTICS",
    "blur_of",
    "central",
    "common_side",
    "image_statistics",
    "noise_of",
    "own_side",
]

STATISTICS = (
    "brightness",
    "contrast",
    *(f"{channel}_mean" for channel in CHANNELS),
    *(f"{channel}_std" for channel in CHANNELS),
    "blur",
    "noise",
    "noise_shared",
    "jpeg_quality",
    "side",
    *(f"background_{channel}" for channel in CHANNELS),
    "background_spread",
)
_LONGEST = 256
_FRAME = 0.1  # of the shorter side
_AWAY = 0.25  # of a background from the mean, in standard deviations of the lightness
_VISIBLE = 1.0  # a difference of L*
_NEARLY_ALL, _ENOUGH = 0.9, 8  # images: share and number


def image_statistics(image):
    """Measure the style of an image.

    Parameters
    ----------
    image : PIL.Image.Image or uint8 array of shape (h, w, 3)
        In RGB.

    Returns
    -------
    dict of str to float
        - ``brightness`` and ``contrast``: mean and standard deviation of the grey
          levels, in [0, 1]
        - ``lightness_mean``, ``green_red_mean``, ``blue_yellow_mean`` and ``..._std``:
          of L*, a* and b* in CIELAB
        - ``blur``: standard deviation of the Gaussian that would blur a sharp image as
          much, in pixels
        - ``noise``: standard deviation of the noise of a channel, in levels of 255;
          ``noise_shared``: its correlation between channels, 1 if it is grey
        - ``jpeg_quality``: from traces in the pixels, in [1, 100]; 100 without any
        - ``side``: the shorter one, in pixels
        - ``background_lightness``, ``..._green_red`` and ``..._blue_yellow``: medians
          along the border; ``background_spread``: standard deviation of L* there

        Blur, noise and quality are measured on at most 256 x 256 pixels in the middle.

    Examples
    --------
    >>> from sklearn.datasets import load_sample_images
    >>> from sktransfer.adaptation import image_statistics
    >>> china, flower = load_sample_images().images
    >>> round(image_statistics(china)["brightness"], 2)
    0.57
    """
    pixels = np.asarray(image)
    lab, luma = to_lab(pixels), luma_of(pixels)
    border = lab[_frame(pixels.shape[:2])]  # (n, 3)
    noise, shared = noise_of(pixels)
    values = [
        luma.mean() / 255,
        luma.std() / 255,
        *lab.mean(axis=(0, 1)),
        *lab.std(axis=(0, 1)),
        blur_of(pixels, noise, shared),
        noise,
        shared,
        quality_of_pixels(luma_of(central(pixels))),
        min(pixels.shape[:2]),
        *np.median(border, axis=0),
        border[:, 0].std(),
    ]
    return {name: float(v) for name, v in zip(STATISTICS, values, strict=True)}


def own_side(lab):
    """Say whether the background is the light or the dark part of an image.

    Parameters
    ----------
    lab : array of shape (h, w, 3)
        In CIELAB.

    Returns
    -------
    int
        1 if it is lighter than the whole, -1 if it is darker, 0 if it is neither.
    """
    light = lab[..., 0]
    background = np.median(light[_frame(light.shape)])
    return int(_sides(background, light.mean(), light.std()))


def common_side(rows):
    """Say the same of nearly all of some images.

    Parameters
    ----------
    rows : ndarray of shape (n, n_statistics)
        Columns as in ``STATISTICS``.

    Returns
    -------
    int
        1 or -1 if nine in ten, and at least eight, are so, and 0 otherwise.
    """
    names = "background_lightness", "lightness_mean", "lightness_std"
    sides = _sides(*(rows[:, STATISTICS.index(name)] for name in names))
    for side in (1, -1):
        n = np.sum(sides == side)
        if n >= max(_ENOUGH, _NEARLY_ALL * len(rows)):
            return side
    return 0


def _sides(background, mean, std):
    away = background - mean
    return np.where(np.abs(away) > np.maximum(_AWAY * std, _VISIBLE), np.sign(away), 0)


def central(pixels):
    """Return the middle of an image, cut along blocks of 8 x 8 pixels."""
    top, left = (max(0, n - _LONGEST) // 16 * 8 for n in pixels.shape[:2])
    return pixels[top : top + _LONGEST, left : left + _LONGEST]


def noise_of(pixels):
    """Return the noise of an image and how much of it channels share."""
    return estimate_noise(central(pixels))


def blur_of(pixels, noise, shared):
    """Return the blur of an image of which the noise is known."""
    return estimate_blur(luma_of(central(pixels)), noise_of_luma(noise, shared))


def _frame(shape):
    """Return a mask of the border, of shape (h, w)."""
    wide = max(1, round(_FRAME * min(shape)))
    mask = np.ones(shape, dtype=bool)
    mask[wide:-wide, wide:-wide] = False
    return mask
