"""Statistics of the style of an image: colours, blur, noise, compression and size."""

from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from sktransfer.utils import import_optional

CHANNELS = "lightness", "green_red", "blue_yellow"
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
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in JPEG
_LUMA_SQUARES = float(_LUMA @ _LUMA)
_CENTRE = 256  # side in pixels of the central part on which blur and noise are measured

_BORDER = 0.1  # width of the border as a share of the shorter side
_CLEARLY = 0.25  # standard deviations of L* between the background and the mean
_VISIBLE = 1.0  # a just noticeable difference of L*
_NEARLY_ALL, _ENOUGH = 0.9, 8  # minimum share and number of images that agree

# Immerkær's mask, which is zero on constants, slopes and edges along the axes. The
# squares of its entries sum to 36; 0.6745 is the median of |z| for a standard normal z.
_IMMERKAER = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32)
_MEDIAN_TO_STD = 1 / (6 * 0.6745)
_SMOOTHEST = 0.3  # share of the pixels on which noise is measured

_SCALES = np.array([1.0, 2.0, 4.0])
_BLURS = np.arange(0, 8.01, 0.05)
# The energy of gradients falls with the scale s as (s²)^-slope: 0.5 for step edges far
# from each other, 1 for photographs, whose power spectrum falls as 1/f².
_SLOPES = 0.5, 1.0


def image_statistics(image: Any) -> dict[str, float]:
    """Measure the style of an RGB image, a PIL image or uint8 array (h, w, 3).

    The statistics are described in ``TargetStyle.statistics_``. The JPEG quality is
    known for files that Pillow opened, and is 100 for other images.
    """
    pixels = np.asarray(image)
    lab, luma = to_lab(pixels), _luma(pixels)
    border = lab[_border(lab.shape[:2])]  # (n, 3)
    noise, shared, blur = noise_and_blur(pixels)
    values = [
        luma.mean() / 255,
        luma.std() / 255,
        *lab.mean(axis=(0, 1)),
        *lab.std(axis=(0, 1)),
        blur,
        noise,
        shared,
        _quality_of(image),
        min(pixels.shape[:2]),
        *np.median(border, axis=0),
        border[:, 0].std(),
    ]
    return {name: float(v) for name, v in zip(STATISTICS, values, strict=True)}


def _luma(pixels):
    """Return the grey level of each pixel, float32 (h, w)."""
    return np.asarray(pixels, dtype=np.float32) @ _LUMA


def _border(shape):
    """Return a mask (h, w) of the border."""
    width = max(1, round(_BORDER * min(shape)))
    mask = np.ones(shape, dtype=bool)
    mask[width:-width, width:-width] = False
    return mask


# Colours


def to_lab(pixels: Any) -> np.ndarray:
    """Convert RGB values in [0, 255] to CIELAB; both (..., 3), float32."""
    return _color().rgb2lab(np.asarray(pixels, dtype=np.float32) / 255)


def from_lab(lab: Any) -> np.ndarray:
    """Convert CIELAB to RGB values in [0, 255]; colours out of gamut are clipped."""
    lab = np.array(lab, dtype=np.float32)
    # scikit-image warns of colours with a negative Z, so these are clipped before.
    bluest = 200 * (lab[..., 0] + 16) / 116 - 1e-3
    lab[..., 2] = np.minimum(lab[..., 2], bluest)
    return 255 * _color().lab2rgb(lab)


def _color():
    return import_optional(
        "skimage.color", feature="Measuring and changing styles", extra="adaptation"
    )


# Noise and blur


def noise_and_blur(pixels: np.ndarray) -> tuple[float, float, float]:
    """Estimate the noise and the blur of an image (h, w, 3) from its central part.

    Returns the standard deviation of the white noise per channel, in grey levels of
    255; the correlation of the noise between the channels, which is 1 for grey noise;
    and the standard deviation in pixels of the Gaussian that blurred the image.
    """
    top, left = (max(0, n - _CENTRE) // 2 for n in pixels.shape[:2])
    centre = pixels[top : top + _CENTRE, left : left + _CENTRE].astype(np.float32)
    luma = _luma(centre)
    noise = float(np.mean([_noise(centre[..., i]) for i in range(3)]))
    noise_of_luma = _noise(luma)
    ratio = 1.0 if noise == 0 else (noise_of_luma / noise) ** 2
    shared = np.clip((ratio - _LUMA_SQUARES) / (1 - _LUMA_SQUARES), 0, 1)
    return noise, float(shared), _blur(luma, noise_of_luma)


def _noise(channel):
    """Estimate the standard deviation of white noise where a channel is smooth.

    scikit-image's ``estimate_sigma`` uses the whole image, where it mistakes texture
    for noise, and needs PyWavelets. Clipped pixels hide noise and are left out.

    References
    ----------
    J. Immerkær (1996). Fast Noise Variance Estimation. Computer Vision and Image
    Understanding 64(2).
    """
    left = np.abs(ndimage.convolve(channel, _IMMERKAER))
    slope = ndimage.gaussian_gradient_magnitude(channel, 1.5)
    low, high = ndimage.minimum_filter(channel, 3), ndimage.maximum_filter(channel, 3)
    free = (low > 0) & (high < 255)
    if not free.any():
        return 0.0
    smooth = free & (slope <= np.quantile(slope[free], _SMOOTHEST))
    return float(np.median(left[smooth]) * _MEDIAN_TO_STD)


def _blur(luma, noise):
    """Estimate the blur of an image with known noise.

    The energy of the gradients falls with the scale s as a power of s² in sharp
    photographs, and as the same power of s² + blur² in blurred ones. The blur is the
    one for which the energies at three scales fit best. scikit-image's ``blur_effect``
    orders images by their blur, but gives no width in pixels.
    """
    energies = np.array([_energy(luma, scale, noise) for scale in _SCALES])
    if energies.min() <= 1e-6:
        return 0.0
    x = np.log(_SCALES**2 + _BLURS[:, None] ** 2)  # (n_blurs, n_scales)
    x -= x.mean(axis=1, keepdims=True)
    y = np.log(energies) - np.log(energies).mean()
    slope = np.clip(-(x @ y) / (x**2).sum(axis=1), *_SLOPES)
    misfit = ((y + slope[:, None] * x) ** 2).sum(axis=1)
    return float(_BLURS[misfit.argmin()])


def _energy(luma, scale, noise):
    slopes = ndimage.gaussian_gradient_magnitude(luma, scale, truncate=3.0)
    return np.mean(slopes**2) - noise**2 / (4 * np.pi * scale**4)


def noise_in_lab(noise: float, shared: float, pixel: Any) -> np.ndarray:
    """Return the variances that noise adds to L*, a* and b* around an RGB colour.

    They are of first order in the noise. `noise` and `shared` are the first two results
    of :func:`noise_and_blur`.
    """
    steps = np.float32(pixel) + np.eye(4, 3, dtype=np.float32)  # the last step is zero
    lab = to_lab(steps).astype(np.float64)
    slopes = (lab[:3] - lab[3]).T  # (lab, rgb)
    correlation = (1 - shared) * np.eye(3) + shared
    return noise**2 * np.diag(slopes @ correlation @ slopes.T)


# JPEG


def jpeg_quality(content: bytes | Path | str | None) -> int:
    """Return the quality in [1, 100] with which a JPEG file was written.

    It is 100 for other files, and for None, which stands for images without a file.
    """
    if content is None:
        return 100
    with Image.open(BytesIO(content) if isinstance(content, bytes) else content) as im:
        return _quality_of(im)


def _quality_of(image):
    """Find the quality whose luminance table is nearest to the table of a JPEG file."""
    tables = getattr(image, "quantization", None)
    if not tables:
        return 100
    found = np.sort(tables[0])
    return int(np.abs(np.log(_luminance_tables() / found)).sum(axis=1).argmin()) + 1


@cache
def _luminance_tables():
    """Return the sorted luminance tables of the qualities from 1 to 100."""
    tables = []
    for quality in range(1, 101):
        file = BytesIO()
        Image.new("L", (8, 8)).save(file, "JPEG", quality=quality)
        with Image.open(file) as image:
            tables.append(np.sort(image.quantization[0]))
    return np.array(tables)


# Light and dark


def background_side(lab: np.ndarray) -> int:
    """Return 1 if the background of a CIELAB image (h, w, 3) is its lighter part.

    The result is -1 if the background is the darker part, and 0 if it is unclear.
    """
    light = lab[..., 0]
    background = np.median(light[_border(light.shape)])
    return int(_sides(background, light.mean(), light.std()))


def prevailing_side(rows: np.ndarray) -> int:
    """Return the :func:`background_side` of nearly all images; 0 if they differ.

    Each row holds the ``STATISTICS`` of an image.
    """
    names = "background_lightness", "lightness_mean", "lightness_std"
    sides = _sides(*(rows[:, STATISTICS.index(name)] for name in names))
    least = max(_ENOUGH, _NEARLY_ALL * len(rows))
    return next((side for side in (1, -1) if np.sum(sides == side) >= least), 0)


def _sides(background, mean, std):
    away = background - mean
    clear = np.abs(away) > np.maximum(_CLEARLY * std, _VISIBLE)
    return np.where(clear, np.sign(away), 0)
