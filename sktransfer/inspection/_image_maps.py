"""From maps over a model input back to the image that it was made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F


def to_image(
    values: torch.Tensor, preprocessing: Any, size: tuple[int, int]
) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Return a map of a model input in the size of the image, and what was seen of it.

    The resizing and the crop of the preprocessing are inverted. Pixels that the network
    did not see are zero; those that it saw are in the box (top, left, bottom, right).
    The map (h, w) may be coarser than the model input; ``size`` is (h, w) of the image,
    in px.
    """
    h, w = preprocessing.size
    fine = _resize(values, (h, w))
    resized = preprocessing.resized_size(*size)
    spans = [_span(*sides) for sides in zip(resized, (h, w), size, strict=True)]
    (rows, (top, bottom)), (columns, (left, right)) = spans
    whole = torch.zeros(size)
    part = _resize(fine[rows, columns], (bottom - top, right - left))
    whole[top:bottom, left:right] = part
    return whole.numpy(), (top, left, bottom, right)


def _span(resized, crop, side):
    """Return what of the model input is image, and its place in the image, in px.

    ``resized`` is the length of the resized image, ``crop`` that of the model input,
    and ``side`` that of the image. A crop that is longer is filled up at both ends.
    """
    if resized < crop:
        first = (crop - resized) // 2
        return slice(first, first + resized), (0, side)
    first = round((resized - crop) / 2)
    start = round(first * side / resized)
    stop = max(start + 1, round((first + crop) * side / resized))
    return slice(None), (min(start, side - 1), min(stop, side))


def _resize(values, size):
    if tuple(values.shape) == tuple(size):
        return values
    return F.interpolate(
        values[None, None].float(), size, mode="bilinear", antialias=True
    )[0, 0]
