"""Random views of images: presets, and what a callable of users may return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from sktransfer.inputs._reading import to_numpy
from sktransfer.inputs.images._files import BOX
from sktransfer.inputs.images._pixels import array_to_image, range_of_dtype
from sktransfer.utils import near_matches

if TYPE_CHECKING:
    from torchvision.transforms import v2

PRESETS = ("crop", "crop_flip", "light", "medium", "strong")
# Shares of the area. ImageNet's training has 0.08 at the lowest.
_CROP_SCALES = {
    "crop": (0.35, 1.0),
    "crop_flip": (0.35, 1.0),
    "light": (0.75, 1.0),
    "medium": (0.35, 1.0),
    "strong": (0.08, 1.0),
}
_JITTER = 0.3


def preset_augmentation(name: str, preprocessing: Any) -> v2.Transform:
    """Return a common augmentation by its name.

    "crop" is a random crop of 35% to 100% of the area, with its aspect ratio changed by
    up to 4:3, and "crop_flip" mirrors at random as well. "light" does the same with 75%
    to 100% of the area. "medium" is "crop_flip" with brightness, contrast and
    saturation changed by up to 30%. "strong" is a crop of 8% to 100%, mirrored at
    random, followed by a random operation of TrivialAugment (Müller and Hutter, 2021,
    https://arxiv.org/abs/2103.10158) and, half of the time, by the erasure of one
    rectangle. Crops have the size that the preprocessing resizes to. "auto" is the
    mirror image.
    """
    from torchvision.transforms import v2

    if name == "auto":
        return v2.RandomHorizontalFlip(p=1.0)
    resize = preprocessing.resize
    size = (resize, resize) if isinstance(resize, int) else resize
    steps = [v2.RandomResizedCrop(size, scale=_CROP_SCALES[name], antialias=True)]
    if name != "crop":
        steps.append(v2.RandomHorizontalFlip())
    if name == "medium":
        steps.append(v2.ColorJitter(*[_JITTER] * 3))
    if name == "strong":
        erase = v2.RandomErasing(p=0.5)
        steps += [v2.TrivialAugmentWide(), v2.PILToTensor(), erase]
    return v2.Compose(steps)


@dataclass(frozen=True)
class ImageAugmentation:
    """From an image to a random view of it, by any function that returns an image.

    Parameters
    ----------
    augment : callable
        From a PIL image in mode RGB to another one, to a tensor of shape (3, h, w), as
        the transforms of torchvision do, or to an array of shape (h, w, 3), both of
        uint8 or of floats from 0 to 1.
    """

    augment: Callable

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the view of an image, which stays as it is, in mode RGB."""
        given = image.copy()  # the function may be the user's own, and draw on it
        given.info.pop(BOX, None)  # of the file, and not of a view
        view = self.augment(given)
        if isinstance(view, Image.Image):
            return view.convert("RGB")
        if isinstance(view, torch.Tensor):  # channels first, as torchvision has them
            view = to_numpy(view.movedim(0, 2) if view.ndim == 3 else view)
        if not isinstance(view, np.ndarray):
            raise TypeError(
                "it must return a PIL image, an array of shape (h, w, 3) or a tensor "
                f"of shape (3, h, w). Got {type(view).__name__}."
            )
        try:
            return array_to_image(view, None, range_of_dtype(view.dtype))
        except ValueError as error:
            raise ValueError(f"it returned what is no image. {error}") from error


def image_augmentation(augment: str | Callable, preprocessing: Any) -> Callable:
    """Return the function from images to views that a value of `augment` stands for."""
    if not isinstance(augment, str):
        return ImageAugmentation(augment)
    known = ("auto", *PRESETS)
    if augment not in known:
        raise ValueError(
            f"`augment` must be None, a callable or one of {list(known)} for a "
            f"backbone that takes images. Got {augment!r}."
            f"{near_matches(augment, known)}"
        )
    return ImageAugmentation(preset_augmentation(augment, preprocessing))
