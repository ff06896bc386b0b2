"""From a file, bytes, an array or a PIL image to an RGB image of 8 bits."""

import io
import os
import struct
import threading

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from sktransfer.inputs._arrays import array_to_image, over_white, to_numpy
from sktransfer.inputs._value_range import check_value_range, resolve_value_range

# A PIL image that was opened but not read yet is read by one thread only.
_LOCKS = tuple(threading.Lock() for _ in range(64))
_SHOWN = 16  # bytes of a file that is no image


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
        Values that stand for black and for full intensity in an array sample.

    Returns
    -------
    image : PIL.Image.Image
        In mode RGB. The EXIF orientation is applied, transparency is laid over
        white, and 16-bit values are divided by 257 and rounded.

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
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = io.BytesIO(source)
    if isinstance(source, (str, os.PathLike, io.BytesIO)):
        return _open_encoded(source)
    if isinstance(source, Image.Image):
        with _LOCKS[id(source) // 16 % len(_LOCKS)]:
            source.load()
        return _to_rgb(_upright(source))
    if isinstance(source, (np.ndarray, torch.Tensor)):
        array = to_numpy(source)
        if check_value_range(value_range) is None:
            value_range = resolve_value_range([array])
        return array_to_image(array, image_shape, value_range)
    raise TypeError(
        "An image must be a path, the bytes of an image file, a PIL image, an array "
        f"or a tensor. Got {source!r} ({type(source).__name__})."
    )


def _open_encoded(source):
    try:
        with Image.open(source) as image:
            image.load()
            return _to_rgb(_upright(image))
    except UnidentifiedImageError as error:
        raise UnidentifiedImageError(_why_unknown(source)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{error} If you trust it, set `PIL.Image.MAX_IMAGE_PIXELS` to more "
            "pixels, or to None for no limit."
        ) from error


def _why_unknown(source):
    """Say what a file or bytes are that Pillow takes for no image."""
    if isinstance(source, io.BytesIO):
        start = source.getvalue()[:_SHOWN]
    else:
        with open(source, "rb") as file:
            start = file.read(_SHOWN)
    if not start:
        return "it is empty, of 0 bytes"
    return f"it is no image that Pillow knows how to read; it begins with {start!r}"


def _upright(image):
    """Apply the EXIF orientation; broken metadata do not spoil a good image."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, struct.error, ValueError, TypeError, KeyError, OSError):
        return image
    return ImageOps.exif_transpose(image) if orientation in range(2, 9) else image


def _to_rgb(image):
    if 0 in image.size:
        raise ValueError(
            f"An image must have at least one pixel. Got {image.width} x "
            f"{image.height} px."
        )
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _from_deep(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        return over_white(image.convert("RGBA"))
    return image.convert("RGB")


def _from_deep(image):
    """Bring gray levels of 16 or 32 bits to 8 bits."""
    values = np.asarray(image)
    pixels = array_to_image(values, None, (0, _white_level(image.mode, values)))
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return pixels
    pixels = np.array(pixels)
    pixels[values == transparent] = 255
    return Image.fromarray(pixels)


def _white_level(mode, values):
    if mode.startswith("I;16"):
        return 65535
    high = values.max()
    if mode == "F" and high <= 1:
        return 1
    return 255 if high <= 255 else 65535
