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

SHIFTS = {
    "measured": ("resolution", "polarity", "blur", "colour", "noise", "jpeg"),
    "lighting": ("lightness",),
    "cameras": ("resolution", "blur", "noise", "jpeg"),
}
_LEAST_BLUR = 0.05  # in pixels
_LEAST_NOISE = 0.25  # in grey levels: the noise of rounding to whole levels
_MOST_CONTRAST = 5.0  # largest factor for the contrast of nearly flat images


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


# In the order in which a photograph undergoes them.
STEPS = {
    "resolution": None,  # the other steps are applied at the resolution that it sets
    "polarity": _polarity,
    "blur": _blur,
    "lightness": partial(_match, channels=(0,)),
    "colour": partial(_match, channels=(0, 1, 2)),
    "noise": _noise,
    "jpeg": _jpeg,
}


def apply_steps(
    image: Image.Image, steps: Collection[str], goal: dict[str, Any], share: float
) -> Image.Image:
    """Move an RGB image towards the style of another by some of the ``STEPS``.

    The goal holds the statistics of the other image by name; ``swaps``, whether to swap
    light and dark; and ``source``, the blur and noise that most source images have at
    least. `share` in [0, 1] is the share of the way to the goal.
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
