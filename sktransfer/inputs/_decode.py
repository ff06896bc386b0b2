"""From a file, bytes, an array or a PIL image to an RGB image of 8 bits."""

import io
import os
import struct

import numpy as np
import torch
from PIL import ExifTags, Image, ImageFile, ImageOps

from sktransfer.inputs._arrays import array_to_image, over_white, to_numpy
from sktransfer.inputs._deep import deep_values, is_deep_mode, loaded, opened
from sktransfer.inputs._value_range import check_value_range, resolve_value_range
from sktransfer.inputs._values import Values

__all__ = ["decode", "open_image"]


def open_image(source, *, image_shape=None, value_range="auto"):
    """Return the RGB image that a sample stands for.

    Parameters
    ----------
    source : str, os.PathLike, bytes, PIL.Image.Image, ndarray or Tensor
        Path of an image file, its encoded content, or an image. Of an animation
        the first frame is taken.
    image_shape : tuple of int or None, default=None
        Shape of an array sample: (h, w), (h, w, c) or (c, h, w).
    value_range : "auto" or tuple of float (low, high), default="auto"
        Values that stand for black and for full intensity in an array, and in a file
        or PIL image of one channel with more than 8 bits.

    Returns
    -------
    image : PIL.Image.Image
        In mode RGB. The EXIF orientation of files, and of PIL images that are still
        the opened file, is applied; transparency is laid over white.

    Raises
    ------
    TypeError
        If `source` is nothing of the above.
    ValueError
        If the values or the shape cannot be those of an image, or the image has more
        pixels than Pillow opens.
    OSError
        If a file is missing, truncated or not an image.
    """
    given = check_value_range(value_range)
    if isinstance(source, io.BytesIO):
        source = source.getvalue()
    elif isinstance(source, os.PathLike):
        source = os.fspath(source)
    if isinstance(source, str):
        with open(source, "rb") as file:
            source = file.read()

    def range_of(values):
        return given or resolve_value_range(Values([values]))

    return decode(source, range_of, image_shape=image_shape)


def decode(source, range_of, *, image_shape=None, upright=True):
    """Return the RGB image of a sample that is in memory.

    Parameters
    ----------
    source : bytes, PIL.Image.Image, ndarray or Tensor
        See `open_image`.
    range_of : callable
        From an array, or the visible values of an image of more than 8 bits, to the
        value range (low, high).
    image_shape : tuple of int or None, default=None
        Shape of an array sample.
    upright : bool, default=True
        Whether the EXIF orientation is applied to what is encoded.

    Returns
    -------
    image : PIL.Image.Image
        In mode RGB.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        with opened(bytes(source)) as image:
            return _to_rgb(_turn_upright(image) if upright else image, range_of)
    if isinstance(source, Image.Image):
        image = loaded(source)
        # What Pillow makes of an opened file is no `ImageFile`, but has its tags still.
        is_file = isinstance(image, ImageFile.ImageFile)
        return _to_rgb(_turn_upright(image) if is_file else image, range_of)
    if isinstance(source, (np.ndarray, torch.Tensor)):
        array = to_numpy(source)
        return array_to_image(array, image_shape, range_of(array))
    raise TypeError(
        "An image must be a path, the bytes of an image file, a PIL image, an array "
        f"or a tensor. Got {source!r} ({type(source).__name__})."
    )


def _turn_upright(image):
    """Apply the EXIF orientation; broken metadata do not spoil a good image."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, struct.error, ValueError, TypeError, KeyError, OSError):
        return image
    return ImageOps.exif_transpose(image) if orientation in range(2, 9) else image


def _to_rgb(image, range_of):
    if 0 in image.size:
        raise ValueError(
            f"An image must have at least one pixel. Got {image.width} x "
            f"{image.height} px."
        )
    if is_deep_mode(image.mode):
        return _from_deep(image, range_of)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        return over_white(image.convert("RGBA"))
    return image.convert("RGB")


def _from_deep(image, range_of):
    """Bring gray levels of more than 8 bits to 8 bits."""
    values, transparent = deep_values(image)
    if transparent is None:
        return array_to_image(values, None, range_of(values))
    visible = values[~transparent]
    if not visible.size:
        return Image.new("RGB", image.size, "white")
    # A transparent value need not lie in the range.
    values = np.where(transparent, visible[0], values)
    pixels = np.array(array_to_image(values, None, range_of(visible)))
    pixels[transparent] = 255
    return Image.fromarray(pixels)
