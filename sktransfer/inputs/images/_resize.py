"""Resizing of 8-bit images, with tensors, that equals Pillow's bit for bit.

An exported model must get the inputs that the estimator computes with Pillow. Those of
torchvision's resizing of tensors differ by one step of 255, and it has no box and no
Hamming filter.

Pillow resizes one axis after the other, and rounds to 8 bits in between. A pixel of the
result is a weighted sum over a window of the axis; the weights are fixed-point numbers.
"""

from functools import lru_cache

import numpy as np
import PIL
import torch
from PIL import Image

# Pillow's codes of the modes of torchvision.
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest-exact": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}
_BITS = 22  # behind the point of a weight, which leaves 8 for the pixel and 2 to spare
# Since version 13, the height may go first.
_MAY_START_WITH_HEIGHT = int(PIL.__version__.partition(".")[0]) >= 13


def _box(x):
    return ((x > -0.5) & (x <= 0.5)).astype(float)


def _triangle(x):
    return np.maximum(1 - abs(x), 0)


def _hamming(x):
    # Pillow's constants are of single precision.
    window = float(np.float32(0.54)) + float(np.float32(0.46)) * np.cos(np.pi * x)
    return np.where(abs(x) < 1, np.sinc(x) * window, 0)


def _cubic(x):
    x, a = abs(x), -0.5
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _lanczos(x):
    return np.where((x >= -3) & (x < 3), np.sinc(x) * np.sinc(x / 3), 0)


# A kernel and how far it reaches.
_KERNELS = {
    "box": (_box, 0.5),
    "bilinear": (_triangle, 1),
    "hamming": (_hamming, 1),
    "bicubic": (_cubic, 2),
    "lanczos": (_lanczos, 3),
}


def resize(
    images: torch.Tensor,
    size: tuple[int, int],
    interpolation: str,
    window: tuple[slice, slice],
) -> torch.Tensor:
    """Resize images exactly as the installed version of Pillow, to (h, w) = `size`.

    Images are uint8 of shape (n, h, w, c). Only the rows and the columns in `window` of
    the resized images are computed. Those of floats, in [0, 255], are not rounded.
    """
    before = tuple(images.shape[1:3])
    axes = (1, 2) if _starts_with_height(before, size) else (2, 1)
    for axis in axes:
        here = axis - 1
        images = _resize_axis(
            images, axis, before[here], size[here], interpolation, window[here]
        )
    return images


def _starts_with_height(before, after):
    """Whether Pillow shrinks the height first: where it shrinks much more."""
    rows, columns = before[0] - after[0], before[1] - after[1]
    return _MAY_START_WITH_HEIGHT and rows > 0 and rows > 2 * columns


def _resize_axis(images, axis, before, after, interpolation, window):
    if before == after:  # Pillow leaves the pass out
        places = np.arange(before)
        return _select(images, axis, places[window])
    if interpolation in ("nearest", "nearest-exact"):
        return _select(images, axis, _nearest(before, after)[window])
    places, weights = _weigh(before, after, interpolation)
    return _weighted_sum(images, axis, places[:, window], weights[:, window])


def _select(images, axis, places):
    everything = np.arange(len(places))
    if len(places) == images.shape[axis] and np.array_equal(places, everything):
        return images
    return images.index_select(axis, torch.as_tensor(places, device=images.device))


def _weighted_sum(images, axis, places, weights):
    """Sum up, step by step, so that memory does not grow with the window."""
    shape = [1] * images.ndim
    shape[axis] = -1
    places = torch.as_tensor(places, device=images.device)
    weights = torch.as_tensor(weights, device=images.device)
    if images.is_floating_point():
        pairs = zip(places, weights * 2.0**-_BITS, strict=True)
        parts = (images.index_select(axis, p) * w.view(shape) for p, w in pairs)
        return sum(parts, start=torch.zeros(())).clamp(0, 255)
    total = 2 ** (_BITS - 1)  # a half, to round
    for place, weight in zip(places, weights, strict=True):
        pixels = images.index_select(axis, place).to(torch.int32)
        total = total + pixels * weight.view(shape)
    # In float64, which holds them exactly: ONNX shifts and divides floats best.
    pixels = (total.double() * 2.0**-_BITS).floor()
    return pixels.clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=128)
def _nearest(before, after):
    """Return the place that each pixel of a resized axis comes from, (after,)."""
    step = before / after
    centres = np.cumsum([0.5 * step, *[step] * (after - 1)])  # rounds as Pillow's sum
    return np.minimum(centres.astype(np.int64), before - 1)


@lru_cache(maxsize=128)
def _weigh(before, after, interpolation):
    """Return the window of each pixel of a resized axis, and its weights.

    Both have the shape (width of the window, after): int64 positions, and int32 weights
    times 2 to the power of ``_BITS``.
    """
    kernel, reach = _KERNELS[interpolation]
    scale = before / after
    stretch = max(scale, 1.0)
    centres = (np.arange(after) + 0.5) * scale
    first = np.maximum((centres - reach * stretch + 0.5).astype(np.int64), 0)
    stop = np.minimum((centres + reach * stretch + 0.5).astype(np.int64), before)
    places = first + np.arange((stop - first).max())[:, None]
    weights = kernel((places - centres + 0.5) * (1 / stretch))
    weights = np.where(places < stop, weights, 0.0)
    total = sum(weights)  # in Pillow's order
    weights = weights / np.where(total == 0, 1, total)
    fixed = weights * 2**_BITS + np.copysign(0.5, weights)
    return np.minimum(places, before - 1), fixed.astype(np.int32)
