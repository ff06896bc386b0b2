"""Colours of 16 bits per channel, of which Pillow reads the upper 8.

Pillow decodes them with the upper bytes. With the order of the two bytes swapped, the
same decoder returns the lower ones.
"""

import io
import sys
from typing import Any

import numpy as np
from PIL import Image

_OPPOSITE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
_GRAY_WITH_ALPHA = "LA;16B"


def has_deep_colours(image: Image.Image) -> bool:
    """Return whether an opened image, not read yet, has colours of 16 bits.

    Gray with an alpha channel counts as well.
    """
    tiles = getattr(image, "tile", ())
    return bool(tiles) and all(_other_bytes(_raw_mode(tile)) for tile in tiles)


def lower_bytes(data: bytes) -> Image.Image | None:
    """Return the lower bytes of the colours of an encoded image, in its own mode.

    The result is None if the image has no colours of 16 bits.
    """
    image: Any = Image.open(io.BytesIO(data))  # not closed: orientations are read later
    if not has_deep_colours(image):
        return None
    is_gray = _raw_mode(image.tile[0]) == _GRAY_WITH_ALPHA
    image.tile = [*map(_swapped, image.tile)]
    image.load()
    if is_gray:  # the bytes of a pixel are two of the gray level and two of alpha
        image.frombytes(np.repeat(np.asarray(image)[..., 1], 4).tobytes())
    return image


def deep_colours(
    upper: Image.Image, lower: Image.Image
) -> tuple[np.ndarray, np.ndarray]:
    """Return colours (h, w, 3) in uint16, and the alpha channel (h, w) in uint8."""
    alpha = np.asarray(upper.convert("RGBA"))[..., 3]
    high, low = (np.asarray(image)[..., :3] for image in (upper, lower))
    return high.astype(np.uint16) << 8 | low, alpha


def _raw_mode(tile):
    args = tile[3]
    return args if isinstance(args, str) else args[0] if args else None


def _other_bytes(raw_mode):
    """Return the raw mode that reads the lower bytes, None for other raw modes."""
    if raw_mode == _GRAY_WITH_ALPHA:
        return "RGBA"
    name, _, depth = str(raw_mode).partition(";16")
    if name not in ("RGB", "RGBA", "RGBX") or depth not in _OPPOSITE:
        return None
    return f"{name};16{_OPPOSITE[depth]}"


def _swapped(tile):
    other = _other_bytes(_raw_mode(tile))
    args = other if isinstance(tile[3], str) else (other, *tile[3][1:])
    return tile._replace(args=args)
