"""The first step of an exported network for images: from pixels to model inputs."""

import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.inputs.images._resize import resize


class RawImages(nn.Module):
    """Resize images as Pillow does, crop them at the centre, and normalise them."""

    names = ("images",)

    def __init__(self, preprocessing):
        super().__init__()
        self.preprocessing = preprocessing

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute model inputs from RGB images of shape (n, h, w, 3).

        They are of uint8, or of floats from 0 to 1, which are not rounded to 8 bits, so
        that gradients reach the pixels.
        """
        _check_images(images)
        if images.is_floating_point():
            images = 255 * images.float()
        preprocessing = self.preprocessing
        resized = preprocessing.resized_size(*images.shape[1:3])
        rows, columns = map(_crop, resized, preprocessing.size)
        pixels = resize(
            images, resized, preprocessing.interpolation, (rows[0], columns[0])
        )
        if any((*rows[1], *columns[1])):
            pixels = F.pad(pixels, (0, 0, *columns[1], *rows[1]))  # black
        return preprocessing.to_input(pixels)

    def example(self, n: int, image_size=None) -> torch.Tensor:
        """Return random images, by default of the size of the model input."""
        size = self.preprocessing.with_size(image_size).size
        generator = torch.Generator().manual_seed(0)
        shape = (n, *size, 3)
        return torch.randint(256, shape, dtype=torch.uint8, generator=generator)

    def extra_repr(self):
        """Name the settings."""
        return self.preprocessing.key()


def _crop(length, wanted):
    """Return the slice of a resized axis to keep, and the pixels to pad it with.

    An axis that is too short is padded on both sides, as by torchvision's
    ``CenterCrop``.
    """
    missing = max(wanted - length, 0)
    first = round(max(length - wanted, 0) / 2)
    padding = (missing // 2, missing - missing // 2)
    return slice(first, first + min(length, wanted)), padding


def _check_images(images):
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(
            "Images must be a tensor of dtype uint8, from 0 for black to 255, or of "
            f"floats from 0 to 1. Got {images.dtype}; convert them first."
        )
    if images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            "Images must be a tensor of shape (n, h, w, 3), the channels last, as "
            f"arrays are. Got shape {tuple(images.shape)}; repeat the values of a "
            "grayscale image for the three channels."
        )
    if 0 in images.shape[1:3]:
        raise ValueError(
            f"Images must have at least one pixel. Got shape {tuple(images.shape)}."
        )
    if images.is_floating_point() and not ((0 <= images) & (images <= 1)).all():
        raise ValueError(
            "Images of floats must have values from 0 for black to 1. Got values from "
            f"{images.min():g} to {images.max():g}; scale them first."
        )
