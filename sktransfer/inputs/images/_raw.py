"""The first step of an exported network for images: from pixels to model inputs."""

import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.inputs.images._resize import resize

__all__ = ["RawImages"]


class RawImages(nn.Module):
    """Resize images as Pillow does, crop them at the centre, and normalise them.

    Parameters
    ----------
    preprocessing : ImagePreprocessing
    """

    name = "images"

    def __init__(self, preprocessing):
        super().__init__()
        self.preprocessing = preprocessing

    def forward(self, images):
        """Compute model inputs.

        Parameters
        ----------
        images : uint8 Tensor of shape (n, h, w, 3)
            RGB images, all of one size; 0 is black and 255 full intensity.

        Returns
        -------
        float32 Tensor of shape (n, 3, height, width)

        Raises
        ------
        TypeError, ValueError
            If it is anything else.
        """
        _check_images(images)
        preprocessing = self.preprocessing
        resized = preprocessing.resized_size(*images.shape[1:3])
        rows, columns = map(_crop, resized, preprocessing.size)
        pixels = resize(
            images, resized, preprocessing.interpolation, (rows[0], columns[0])
        )
        if any((*rows[1], *columns[1])):
            pixels = F.pad(pixels, (0, 0, *columns[1], *rows[1]))  # black
        return preprocessing.to_input(pixels)

    def example(self, n, image_size=None):
        """Return random images.

        Parameters
        ----------
        n : int
        image_size : int or tuple of int (h, w), default=None
            In px. By default that of the model input.

        Returns
        -------
        uint8 Tensor of shape (n, h, w, 3)

        Raises
        ------
        ValueError
            If `image_size` is no size.
        """
        size = self.preprocessing.with_size(image_size).size
        generator = torch.Generator().manual_seed(0)
        shape = (n, *size, 3)
        return torch.randint(256, shape, dtype=torch.uint8, generator=generator)

    def extra_repr(self):
        """Name the settings."""
        return self.preprocessing.key()


def _crop(length, wanted):
    """Return the part of a resized axis that is kept, and the px to pad it with.

    Where it is too short, it is padded on both sides, as torchvision's ``CenterCrop``
    does.
    """
    missing = max(wanted - length, 0)
    first = round(max(length - wanted, 0) / 2)
    padding = (missing // 2, missing - missing // 2)
    return slice(first, first + min(length, wanted)), padding


def _check_images(images):
    if images.dtype != torch.uint8:
        raise TypeError(
            "Images must be a tensor of dtype uint8, from 0 for black to 255. Got "
            f"{images.dtype}; scale and round them first."
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
