"""Opening, rotation, hashes and conversion to RGB of encoded images and PIL images.

An image is called deep if it has more than 8 bits per channel. Its value range is the
pair of values that stand for black and for full intensity.
"""

import hashlib
import io
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from sktransfer.inputs.images._deep_colours import (
    deep_colours,
    has_deep_colours,
    lower_bytes,
)
from sktransfer.inputs.images._pixels import array_to_image, over_white, to_uint8
from sktransfer.utils import DIGEST_SIZE, FileCache, digest

_HEAD = 26  # bytes up to the depth of a PNG file, at least
_PNG = b"\x89PNG\r\n\x1a\n"
_16_BITS = b"\x10"
_SHALLOW = (b"\xff\xd8", b"GIF8", b"BM")  # JPEG, GIF and BMP files are of 8 bits
BOX = "sktransfer_box"
_SCALABLE = ("JPEG", "MPO")  # the latter holds several JPEG images, as phones take them
_SHOWN = 16  # bytes of a file that is not an image
_SOUNDS = (b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM")  # starts of recordings
# A JPEG, PNG, GIF, BMP or WebP file without any of these has no orientation.
_TAGS = (b"Exif", b"exif", b"eXIf", b"EXIF", b"adobe", b"Orientation")
# A PIL image that was opened but not read yet is read by one thread only.
_LOCKS = tuple(threading.Lock() for _ in range(64))


@contextmanager
def opened(data: bytes, least_side: int | None = None) -> Iterator[Image.Image]:
    """Open an encoded image and read its pixels.

    A JPEG file is decoded at 1/2, 1/4 or 1/8 of its size if none of its sides is then
    below `least_side`. Its last row and column may then stand for fewer pixels than
    the others, and ``image.info[BOX]`` is the part (left, top, right, bottom) that the
    whole image fills, in pixels and fractions of pixels.

    Raises a ValueError if the image has more pixels than Pillow opens, and an OSError
    if it is truncated or no image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            box = None
            if least_side is not None and image.format in _SCALABLE:
                _, box = image.draft(None, (least_side, least_side)) or (None, None)
            image.load()
            if box is not None:
                image.info[BOX] = box
            yield image
    except UnidentifiedImageError as error:
        raise UnidentifiedImageError(_why_unknown(data)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{error} If you trust it, set `PIL.Image.MAX_IMAGE_PIXELS` to more "
            "pixels, or to None for no limit."
        ) from error


def _why_unknown(data):
    if not data:
        return "it is empty, of 0 bytes"
    start = data[:_SHOWN]
    hint = ""
    if data.startswith(_SOUNDS):
        hint = ". If X holds recordings, pass backbone='speech_embedding'"
    return (
        f"it is no image that Pillow knows how to read; it begins with {start!r}{hint}"
    )


def loaded(image: Image.Image) -> Image.Image:
    """Return a PIL image with its pixels read, by one thread at a time."""
    with _LOCKS[id(image) // 16 % len(_LOCKS)]:
        image.load()
    return image


def picture_to_rgb(
    source: bytes | Image.Image,
    range_of: Callable,
    upright: bool = True,
    least_side: int | None = None,
) -> Image.Image:
    """Return an encoded image, or a PIL image, in mode RGB.

    `range_of` maps the visible values of a deep image to their value range (low, high).
    `upright` says whether the EXIF orientation of an encoded image is applied, and
    `least_side` lets it be decoded at a part of its size, see `opened`.
    """
    if isinstance(source, Image.Image):
        image = loaded(source)
        # An image that was made of an opened file has its tags, but is no `ImageFile`.
        is_file = isinstance(image, ImageFile.ImageFile)
        return _to_rgb(_turn_upright(image) if is_file else image, range_of)
    turned = _turn_upright if upright else lambda image: image
    with opened(source, least_side) as image:
        lower = lower_bytes(source) if _may_be_deep(source) else None
        if lower is not None:
            colours, alpha = deep_colours(turned(image), turned(lower))
            return _from_deep_colours(colours, alpha, range_of)
        return _to_rgb(turned(image), range_of)


def _may_be_deep(data):
    return _is_deep_by_head(data) is not False


def _turn_upright(image):
    """Apply the EXIF orientation, and ignore broken metadata."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, struct.error, ValueError, TypeError, KeyError, OSError):
        return image
    if orientation not in range(2, 9):
        return image
    turned = ImageOps.exif_transpose(image)
    if BOX in image.info:
        turned.info[BOX] = _turned_box(image.info[BOX], turned.size, orientation)
    return turned


def _turned_box(box, size, orientation):
    """Return the box of an image that was turned to this size."""
    width, height = box[2:]  # it began at the upper left corner
    if orientation >= 5:
        width, height = height, width
    left = size[0] - width if orientation in (2, 3, 6, 7) else 0
    top = size[1] - height if orientation in (3, 4, 7, 8) else 0
    return left, top, left + width, top + height


def _to_rgb(image, range_of):
    if 0 in image.size:
        raise ValueError(
            f"An image must have at least one pixel. Got {image.width} x "
            f"{image.height} px."
        )
    if _is_deep_mode(image.mode):
        return _from_deep(image, range_of)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        return over_white(image.convert("RGBA"))
    return image.convert("RGB")


def _from_deep(image, range_of):
    """Scale gray levels of more than 8 bits to 8 bits."""
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


def _from_deep_colours(colours, alpha, range_of):
    """Scale colours of 16 bits to 8 bits, and lay them over white."""
    visible = colours[alpha > 0]
    if not visible.size:
        return Image.new("RGB", alpha.shape[::-1], "white")
    colours = np.where(alpha[..., None] > 0, colours, visible[0])
    pixels = to_uint8(colours, range_of(visible))
    return over_white(Image.fromarray(np.dstack([pixels, alpha])))


def _is_deep_mode(mode):
    return mode in ("I", "F") or mode.startswith("I;16")


def _is_deep_by_head(data: bytes) -> bool | None:
    """Return whether an encoded image is deep, by its first 26 bytes.

    None stands for formats other than JPEG, PNG, GIF, BMP and WebP, which these bytes
    do not decide.
    """
    if data.startswith(_PNG):
        return data[24:25] == _16_BITS
    if data.startswith(_SHALLOW) or (data[:4], data[8:12]) == (b"RIFF", b"WEBP"):
        return False
    return None


def _mode_of(source):
    """Return the mode of an image by its header, "" if it is no image.

    That of colours of 16 bits is "I;16", as for gray levels.
    """
    try:
        with Image.open(source) as image:
            return "I;16" if has_deep_colours(image) else image.mode
    except Exception:  # reading it will raise an error
        return ""


def deep_dtype(item: Any) -> np.dtype | None:
    """Return the dtype of the values of a deep image, as its header has it.

    `item` is a path, bytes or a PIL image. The result is None for any other object, and
    for images that are not deep.
    """
    if isinstance(item, Image.Image):
        mode = item.mode
    elif isinstance(item, bytes):
        mode = "" if _is_deep_by_head(item) is False else _mode_of(io.BytesIO(item))
    elif isinstance(item, str):
        mode = _mode_of_file(item)
    else:
        return None
    if not _is_deep_mode(mode):
        return None
    return np.dtype({"I": np.int32, "F": np.float32}.get(mode, np.uint16))


def _mode_of_file(path):
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return ""
    return "" if _is_deep_by_head(head) is False else _mode_of(path)


def deep_values(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the values (h, w) of a deep PIL image, and the mask of transparent ones.

    The mask is None if no value is transparent.
    """
    values = np.asarray(image)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    level = image.info.get("transparency")
    return values, values == level if isinstance(level, int) else None


def visible_values(item: str | bytes | Image.Image) -> np.ndarray | None:
    """Read a deep image; return its values that are not transparent.

    `item` is a path, bytes or a PIL image. The result is None if it is not deep.
    """
    if isinstance(item, Image.Image):
        return _visible(loaded(item))
    if isinstance(item, str):
        with open(item, "rb") as file:
            item = file.read()
    with opened(item) as image:
        lower = lower_bytes(item) if _may_be_deep(item) else None
        if lower is None:
            return _visible(image)
        colours, alpha = deep_colours(image, lower)
        return colours[alpha > 0]


def _visible(image):
    if not _is_deep_mode(image.mode):
        return None
    values, transparent = deep_values(image)
    return values if transparent is None else values[~transparent]


@dataclass(frozen=True)
class Content:
    """Hash of the bytes of an encoded image, and what its appearance depends on."""

    digest: bytes  # of the bytes alone
    is_deep: bool
    is_lying: bool  # whether there may be an orientation that is not applied

    def identify(self, value_range: tuple | None) -> bytes:
        """Return the digest of the image that the bytes are decoded to.

        It is the digest of the bytes, unless the value range of a deep image or an
        orientation that is not applied changes the pixels.
        """
        others = []
        if self.is_deep:
            limits = value_range and tuple(map(float, value_range))
            others.append(f"value_range={limits}")
        if self.is_lying:
            others.append("as it lies")
        return digest(self.digest, *others) if others else self.digest


def content_of(data: bytes, upright: bool = True) -> Content:
    """Return the content of encoded bytes, which are turned upright or not."""
    found = hashlib.blake2b(data, digest_size=DIGEST_SIZE).digest()
    by_head = _is_deep_by_head(data)
    is_deep = bool(by_head)
    if by_head is None:
        is_deep = _is_deep_mode(_mode_of(io.BytesIO(data)))
    may_be_turned = by_head is None or any(tag in data for tag in _TAGS)
    return Content(found, is_deep, not upright and may_be_turned)


def _content_of_file(file, upright):
    return content_of(file.read(), upright)


_known = FileCache(_content_of_file)


def file_content(path: str, upright: bool = True) -> Content:
    """Return the content of a file, which is read again only if it has changed."""
    return _known(path, upright)
