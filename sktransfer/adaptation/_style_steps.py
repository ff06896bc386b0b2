"""The ways in which an image is moved towards the statistics of another."""

import math
from functools import partial

import numpy as np
import torch
from PIL import Image

from sktransfer.adaptation._blur import add_blur
from sktransfer.adaptation._fourier import mix_amplitudes
from sktransfer.adaptation._image_statistics import blur_of, noise_of
from sktransfer.adaptation._jpeg import compress
from sktransfer.adaptation._lab import CHANNELS, from_lab, to_lab
from sktransfer.adaptation._match import match_moments, match_quantiles
from sktransfer.adaptation._noise import add_noise, noise_in_lab

__all__ = ["SHIFTS", "STEPS", "apply_steps", "turned"]

SHIFTS = {
    "measured": ("resolution", "polarity", "blur", "colour", "noise", "jpeg"),
    "lighting": ("lightness",),
    "cameras": ("resolution", "blur", "noise", "jpeg"),
    "backgrounds": ("erase",),
    "styles": ("fourier",),
}
_LEAST_BLUR = 0.05  # in pixels
_LEAST_NOISE = 0.25  # in grey levels: what rounding to whole levels adds
_LARGEST_HOLE = 0.33  # share of the area, as torchvision's RandomErasing
_ASPECTS = math.log(0.3), math.log(3.3)


def turned(lab):
    """Turn light into dark (array of shape (h, w, 3), in CIELAB)."""
    return lab * [-1, 1, 1] + [100, 0, 0]


def _polarity(pixels, goal, share):
    turns = goal.get("turns", False) and share > 0
    return from_lab(turned(to_lab(pixels))) if turns else pixels


def _blur(pixels, goal, share):
    noise, shared = noise_of(_whole(pixels))
    own = _at_most(blur_of(pixels, noise, shared), goal, "blur")
    wanted = own + share * (goal["blur"] * goal["scale"] - own)
    sigma = math.sqrt(max(0.0, wanted**2 - own**2) if wanted > 0 else 0.0)
    return add_blur(pixels, sigma) if sigma > _LEAST_BLUR else pixels


def _at_most(own, goal, name):
    """Take what is measured on an image, but no more than all of the source have."""
    most = goal.get("source")
    return own if most is None else min(own, most[name] * goal["own_scale"])


def _match(pixels, goal, share, channels):
    """Move the means and standard deviations of channels of CIELAB."""
    lab, (noise, shared) = to_lab(pixels), noise_of(_whole(pixels))
    noise = _at_most(noise, goal, "noise")
    own = _clean(lab.std(axis=(0, 1)), noise, shared, pixels.mean(axis=(0, 1)))
    means, stds = (
        np.array([goal[f"{c}_{m}"] for c in CHANNELS]) for m in ("mean", "std")
    )
    stds = _clean(stds, goal["noise"], goal["noise_shared"], from_lab(means))
    for i in channels:
        moved = match_moments(lab[..., i], means[i], stds[i], own_std=own[i])
        lab[..., i] += share * (moved - lab[..., i])
    return from_lab(lab)


def _clean(stds, noise, shared, pixel):
    """Take off the standard deviations what the noise added."""
    added = noise_in_lab(noise, shared, pixel)
    return np.sqrt(np.maximum(stds**2 - added, 0))


def _histogram(pixels, goal, share):
    lab = to_lab(pixels)
    for i, quantiles in enumerate(goal["quantiles"]):
        lab[..., i] += share * (match_quantiles(lab[..., i], quantiles) - lab[..., i])
    return from_lab(lab)


def _fourier(pixels, goal, share):
    h, w = pixels.shape[:2]
    reference = Image.fromarray(goal["reference"])
    reference = np.asarray(reference.resize((w, h), Image.Resampling.BILINEAR))
    return mix_amplitudes(pixels, reference, beta=goal["beta"], share=share)


def _noise(pixels, goal, share):
    own = _at_most(noise_of(_whole(pixels))[0], goal, "noise")
    wanted = own + share * (goal["noise"] * goal["scale"] - own)
    sigma = math.sqrt(max(0.0, wanted**2 - own**2))
    if sigma <= _LEAST_NOISE:
        return pixels
    return add_noise(pixels, sigma, goal["noise_shared"], _normal)


def _normal(shape):
    return torch.randn(shape).numpy()


def _jpeg(pixels, goal, share):
    quality = round(100 - share * (100 - goal["jpeg_quality"]))
    return pixels if quality >= 100 else compress(_whole(pixels), quality)


def _erase(pixels, goal, share):
    """Cover a rectangle with a colour of the target's backgrounds."""
    area, aspect, top, left = torch.rand(4).tolist()
    h, w = pixels.shape[:2]
    area *= _LARGEST_HOLE * share * h * w
    aspect = math.exp(_ASPECTS[0] + aspect * (_ASPECTS[1] - _ASPECTS[0]))
    high = min(h, round(math.sqrt(area * aspect)))
    wide = min(w, round(math.sqrt(area / aspect)))
    top, left = round(top * (h - high)), round(left * (w - wide))
    pixels = np.array(pixels)
    colour = from_lab([goal[f"background_{c}"] for c in CHANNELS])
    pixels[top : top + high, left : left + wide] = colour
    return pixels


# In the order in which they happen to a photograph.
STEPS = {
    "resolution": None,  # the others happen at the one that it sets
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


def apply_steps(image, steps, goal, share):
    """Move an image towards what is known of another.

    Parameters
    ----------
    image : PIL.Image.Image
        In RGB.
    steps : collection of str
        Of ``STEPS``.
    goal : dict
        Statistics of the other image by their names, and where steps ask for them its
        ``quantiles``, ``reference`` and ``beta``, and ``turns``: whether light becomes
        dark.
    share : float
        How far to go, in [0, 1].

    Returns
    -------
    PIL.Image.Image
        Of the same size.
    """
    size, own = image.size, min(image.size)
    side = own + share * min(0, goal["side"] - own) if "resolution" in steps else own
    goal = {**goal, "scale": side / goal["side"], "own_scale": side / own}
    pixels = np.asarray(_resized(image, [max(1, round(n * side / own)) for n in size]))
    for name, step in STEPS.items():
        if name in steps and step is not None:
            pixels = step(pixels, goal, share)
    return _resized(Image.fromarray(_whole(pixels)), size)


def _resized(image, size):
    size = tuple(size)
    same = image.size == size
    return image if same else image.resize(size, Image.Resampling.BILINEAR)


def _whole(pixels):
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)
