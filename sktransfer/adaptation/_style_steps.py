"""Steps that move an image towards the style of another: colours, blur, noise, …."""

import math
from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torchvision.transforms import v2

from sktransfer.adaptation._image_statistics import (
    CHANNELS,
    from_lab,
    noise_and_blur,
    noise_in_lab,
    to_lab,
)
from sktransfer.utils import import_optional

SHIFTS = {
    "measured": ("resolution", "polarity", "blur", "colour", "noise", "jpeg"),
    "lighting": ("lightness",),
    "cameras": ("resolution", "blur", "noise", "jpeg"),
    "backgrounds": ("erase",),
    "styles": ("fourier",),
}
_LEAST_BLUR = 0.05  # in pixels
_LEAST_NOISE = 0.25  # in grey levels: the noise of rounding to whole levels
_LARGEST_HOLE = 0.33  # share of the area, the default of torchvision's RandomErasing
_MOST_CONTRAST = 5.0  # largest factor for the contrast of nearly flat images


def mix_amplitudes(
    pixels: np.ndarray, reference: np.ndarray, *, beta: float, share: float = 1.0
) -> np.ndarray:
    """Give an image the low-frequency amplitudes of another (Fourier adaptation).

    Both have shape (h, w, c) and values in [0, 255]; the result is not clipped. Low
    frequencies have up to `beta` times the shorter side waves per image. The phases and
    all other amplitudes of the image are kept. The low amplitudes go a `share` of the
    way to the amplitudes of the reference.

    References
    ----------
    Y. Yang, S. Soatto (2020). FDA: Fourier Domain Adaptation for Semantic Segmentation.
    https://arxiv.org/abs/2004.05498
    """
    own = np.fft.fft2(pixels, axes=(0, 1))
    other = np.abs(np.fft.fft2(reference, axes=(0, 1)))
    amplitude, low = np.abs(own), _low_frequencies(pixels.shape[:2], beta)
    amplitude[low] += share * (other[low] - amplitude[low])
    mixed = amplitude * np.exp(1j * np.angle(own))
    return np.fft.ifft2(mixed, axes=(0, 1)).real


def _low_frequencies(shape, beta):
    """Return a mask (h, w) of low frequencies, in the order of NumPy's FFT."""
    if beta == 0:
        return np.zeros(shape, dtype=bool)
    most = np.floor(beta * min(shape))
    h, w = (np.rint(np.abs(np.fft.fftfreq(n) * n)) <= most for n in shape)
    return h[:, None] & w


def swap_lightness(lab: np.ndarray) -> np.ndarray:
    """Swap light and dark in an image (h, w, 3) in CIELAB."""
    return lab * [-1, 1, 1] + [100, 0, 0]


# The steps. Each takes pixels of shape (h, w, 3), the goal and the share of the way to
# the goal, and returns pixels; see `apply_steps`.


def _polarity(pixels, goal, share):
    swaps = goal.get("swaps", False) and share > 0
    return from_lab(swap_lightness(to_lab(pixels))) if swaps else pixels


def _blur(pixels, goal, share):
    own = _limited(noise_and_blur(_rounded(pixels))[2], goal, "blur")
    wanted = own + share * (goal["blur"] * goal["scale"] - own)
    sigma = math.sqrt(max(0.0, wanted**2 - own**2)) if wanted > 0 else 0.0
    if sigma <= _LEAST_BLUR:
        return pixels
    return ndimage.gaussian_filter(np.float32(pixels), (sigma, sigma, 0))


def _limited(own, goal, name):
    """Limit a statistic of one image to the value that most source images have."""
    most = goal.get("source")
    return own if most is None else min(own, most[name] * goal["own_scale"])


def _match(pixels, goal, share, channels):
    """Move the means and standard deviations of CIELAB channels towards the goal.

    References
    ----------
    E. Reinhard, M. Ashikhmin, B. Gooch, P. Shirley (2001). Color Transfer between
    Images. IEEE Computer Graphics and Applications 21(5).
    """
    lab, (noise, shared, _) = to_lab(pixels), noise_and_blur(_rounded(pixels))
    noise = _limited(noise, goal, "noise")
    own_means, own_stds = lab.mean(axis=(0, 1)), lab.std(axis=(0, 1))
    own_stds = _without_noise(own_stds, noise, shared, pixels.mean(axis=(0, 1)))
    means, stds = (
        np.array([goal[f"{c}_{m}"] for c in CHANNELS]) for m in ("mean", "std")
    )
    colour = from_lab(means[None])[0]
    stds = _without_noise(stds, goal["noise"], goal["noise_shared"], colour)
    for i in channels:
        factor = min(stds[i] / own_stds[i], _MOST_CONTRAST) if own_stds[i] > 0 else 1
        moved = (lab[..., i] - own_means[i]) * factor + means[i]
        lab[..., i] += share * (moved - lab[..., i])
    return from_lab(lab)


def _without_noise(stds, noise, shared, colour):
    return np.sqrt(np.maximum(stds**2 - noise_in_lab(noise, shared, colour), 0))


def _histogram(pixels, goal, share):
    exposure = import_optional(
        "skimage.exposure", feature="Matching histograms", extra="adaptation"
    )
    lab, reference = to_lab(pixels), to_lab(goal["reference"])
    moved = exposure.match_histograms(lab, reference, channel_axis=-1)
    return from_lab(lab + share * (moved - lab))


def _fourier(pixels, goal, share):
    h, w = pixels.shape[:2]
    reference = np.asarray(_resized(Image.fromarray(goal["reference"]), (w, h)))
    return mix_amplitudes(pixels, reference, beta=goal["beta"], share=share)


def _noise(pixels, goal, share):
    own = _limited(noise_and_blur(_rounded(pixels))[0], goal, "noise")
    wanted = own + share * (goal["noise"] * goal["scale"] - own)
    sigma, shared = math.sqrt(max(0.0, wanted**2 - own**2)), goal["noise_shared"]
    if sigma <= _LEAST_NOISE:
        return pixels
    common, own = torch.randn((*pixels.shape[:2], 1)), torch.randn(pixels.shape)
    noise = math.sqrt(shared) * common + math.sqrt(1 - shared) * own
    return pixels + sigma * noise.numpy()


def _jpeg(pixels, goal, share):
    quality = round(100 - share * (100 - goal["jpeg_quality"]))
    if quality >= 100:
        return pixels
    return np.asarray(v2.functional.jpeg(Image.fromarray(_rounded(pixels)), quality))


def _erase(pixels, goal, share):
    """Cover a random rectangle with the background colour of the goal."""
    if not share:
        return pixels
    colour = from_lab([[goal[f"background_{c}"] for c in CHANNELS]])[0]
    erase = v2.RandomErasing(1.0, scale=(0, _LARGEST_HOLE * share), value=[*colour])
    planes = torch.tensor(np.float32(pixels)).permute(2, 0, 1)
    return erase(planes).permute(1, 2, 0).numpy()


# In the order in which a photograph undergoes them.
STEPS = {
    "resolution": None,  # the other steps are applied at the resolution that it sets
    "fourier": _fourier,
    "polarity": _polarity,
    "erase": _erase,
    "blur": _blur,
    "lightness": partial(_match, channels=(0,)),
    "colour": partial(_match, channels=(0, 1, 2)),
    "histogram": _histogram,
    "noise": _noise,
    "jpeg": _jpeg,
}


def apply_steps(
    image: Image.Image, steps: Collection[str], goal: dict[str, Any], share: float
) -> Image.Image:
    """Move an RGB image towards the style of another by some of the ``STEPS``.

    The goal holds the statistics of the other image by name; ``reference``, a uint8
    image for "histogram" and "fourier", and ``beta`` for the latter; ``swaps``, whether
    to swap light and dark; and ``source``, the blur and noise that most source images
    have at least. `share` in [0, 1] is the share of the way to the goal.
    """
    size, own = image.size, min(image.size)
    side = own + share * min(0, goal["side"] - own) if "resolution" in steps else own
    goal = {**goal, "scale": side / goal["side"], "own_scale": side / own}
    pixels = np.asarray(_resized(image, [max(1, round(n * side / own)) for n in size]))
    for name, step in STEPS.items():
        if name in steps and step is not None:
            pixels = step(pixels, goal, share)
    return _resized(Image.fromarray(_rounded(pixels)), size)


def _resized(image, size):
    size = tuple(size)
    same = image.size == size
    return image if same else image.resize(size, Image.Resampling.BILINEAR)


def _rounded(pixels):
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)
