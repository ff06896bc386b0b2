"""Images of one channel and more than 8 bits: which they are, and their values."""

import io
import threading
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

__all__ = [
    "deep_dtype",
    "deep_values",
    "is_deep",
    "is_deep_by_head",
    "is_deep_mode",
    "loaded",
    "opened",
    "visible_values",
]

_HEAD = 26  # bytes up to the depth and the colour type of a PNG file
_PNG = b"\x89PNG\r\n\x1a\n"
_GRAY_OF_16_BITS = b"\x10\x00"
_SHALLOW = (b"\xff\xd8", b"GIF8", b"BM")  # JPEG, GIF and BMP files are of 8 bits
_SHOWN = 16  # bytes of a file that is no image
# A PIL image that was opened but not read yet is read by one thread only.
_LOCKS = tuple(threading.Lock() for _ in range(64))


def is_deep_mode(mode):
    """Say whether a mode of Pillow is of one channel with more than 8 bits."""
    return mode in ("I", "F") or mode.startswith("I;16")


def is_deep(data):
    """Say whether an encoded image is deep, by its header.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    bool
        False for what is no image, too.
    """
    told = is_deep_by_head(data)
    return is_deep_mode(_mode_of(io.BytesIO(data))) if told is None else told


def is_deep_by_head(data):
    """Say whether an encoded image is deep where its first bytes tell.

    Parameters
    ----------
    data : bytes
        The first 26 of them or more.

    Returns
    -------
    bool or None
        None where they do not tell: for all but JPEG, PNG, GIF, BMP and WebP.
    """
    if data.startswith(_PNG):
        return data[24:26] == _GRAY_OF_16_BITS
    if data.startswith(_SHALLOW) or (data[:4], data[8:12]) == (b"RIFF", b"WEBP"):
        return False
    return None


def _mode_of(source):
    try:
        with Image.open(source) as image:
            return image.mode
    except Exception:  # who reads it says what is wrong
        return ""


def deep_dtype(item):
    """Return the dtype of the values of a deep image, found by its header.

    Parameters
    ----------
    item : str, bytes, PIL.Image.Image or anything else
        Path, encoded image or image.

    Returns
    -------
    numpy.dtype or None
        None for what is no deep image.
    """
    if isinstance(item, Image.Image):
        mode = item.mode
    elif isinstance(item, bytes):
        told = is_deep_by_head(item)
        mode = "" if told is False else _mode_of(io.BytesIO(item))
    elif isinstance(item, str):
        mode = _mode_of_file(item)
    else:
        return None
    if not is_deep_mode(mode):
        return None
    return np.dtype({"I": np.int32, "F": np.float32}.get(mode, np.uint16))


def _mode_of_file(path):
    try:
        with open(path, "rb") as file:
            told = is_deep_by_head(file.read(_HEAD))
    except OSError:
        return ""
    return "" if told is False else _mode_of(path)


def deep_values(image):
    """Return the values of a deep image, and which of them are transparent.

    Parameters
    ----------
    image : PIL.Image.Image
        In a deep mode.

    Returns
    -------
    values : ndarray of shape (h, w)
        uint16, int32 or float32.
    transparent : ndarray of bool of shape (h, w) or None
    """
    values = np.asarray(image)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    level = image.info.get("transparency")
    return values, values == level if isinstance(level, int) else None


def visible_values(item):
    """Return the values of a deep image that are not transparent.

    Parameters
    ----------
    item : str, bytes or PIL.Image.Image
        Path, encoded image or image, which is read.

    Returns
    -------
    ndarray or None
        None if it is not deep.
    """
    if isinstance(item, Image.Image):
        return _visible(loaded(item))
    if isinstance(item, str):
        with open(item, "rb") as file:
            item = file.read()
    with opened(item) as image:
        return _visible(image)


def _visible(image):
    if not is_deep_mode(image.mode):
        return None
    values, transparent = deep_values(image)
    return values if transparent is None else values[~transparent]


def loaded(image):
    """Return a PIL image with its pixels read, by one thread at a time."""
    with _LOCKS[id(image) // 16 % len(_LOCKS)]:
        image.load()
    return image


@contextmanager
def opened(data):
    """Open an encoded image and read its pixels.

    Parameters
    ----------
    data : bytes

    Yields
    ------
    image : PIL.ImageFile.ImageFile

    Raises
    ------
    ValueError
        If the image has more pixels than Pillow opens.
    OSError
        If it is truncated or no image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            yield image
    except UnidentifiedImageError as error:
        raise UnidentifiedImageError(_why_unknown(data)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{error} If you trust it, set `PIL.Image.MAX_IMAGE_PIXELS` to more "
            "pixels, or to None for no limit."
        ) from error


def _why_unknown(data):
    """Say what bytes are that Pillow takes for no image."""
    if not data:
        return "it is empty, of 0 bytes"
    start = data[:_SHOWN]
    return f"it is no image that Pillow knows how to read; it begins with {start!r}"
