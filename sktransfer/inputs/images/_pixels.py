"""Array samples: their layout, their range of values, and conversion to RGB images."""

import warnings
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
from PIL import Image

CHANNELS_LAST = (1, 3, 4)
CHANNELS_FIRST = (1, 3)
_FEWEST = 100  # values, below which their maximum says little about the range
_ROUNDING = 4  # rounding errors, in units of the last place, of a few sums and products
_NEARLY_WHOLE = 1e-5
_FRACTION = 255  # images of floats that use a smaller share of their range look dark
_PART = 15  # the same for integers: 12 bits of 16 are less
_OVERSHOOT = 0.1  # by which values between 0 and 1 may exceed these by interpolation
_WHITES = (255, 65535)  # full intensity of images of 8 and of 16 bits


def check_image_shape(image_shape: Any) -> tuple[int, ...] | None:
    """Return `image_shape`, (h, w), (h, w, c) or (c, h, w), as a tuple, or None."""
    if image_shape is None:
        return None
    valid = (
        isinstance(image_shape, (tuple, list))
        and len(image_shape) in (2, 3)
        and all(isinstance(k, Integral) and int(k) >= 1 for k in image_shape)
    )
    if valid and len(image_shape) == 3:
        valid = image_shape[2] in CHANNELS_LAST or image_shape[0] in CHANNELS_FIRST
    if not valid:
        raise ValueError(
            "`image_shape` must be (h, w), (h, w, c) with 1, 3 or 4 channels, or "
            f"(c, h, w) with 1 or 3 channels. Got {image_shape!r}."
        )
    return tuple(int(k) for k in image_shape)


def channels_last(
    array: np.ndarray, image_shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """Return a view (h, w, c) of one sample, with 1, 3 or 4 channels.

    The array has shape (h, w), (h, w, c), (c, h, w) or (d,). If both its first and its
    last axis can be the channels, the last axis is. A flat array is reshaped to
    `image_shape`; any other must agree with it.
    """
    shape = array.shape
    if array.size == 0:
        raise ValueError(f"An image must have at least one pixel. Got shape {shape}.")
    if array.ndim == 1:
        array = _unflatten(array, image_shape)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3:
        raise ValueError(
            "The array of one image must have shape (h, w), (h, w, c), (c, h, w) or, "
            f"with `image_shape`, (d,). Got shape {shape}."
        )
    if array.shape[2] not in CHANNELS_LAST:
        if array.shape[0] not in CHANNELS_FIRST:
            raise ValueError(
                "An image must have 1, 3 or 4 channels in its last axis, or 1 or 3 "
                f"in its first. Got shape {shape}; select or convert the channels, or "
                "give a network of your own a "
                "`sktransfer.inputs.MultichannelPreprocessing`."
            )
        array = np.moveaxis(array, 0, 2)
    if image_shape is not None and image_shape not in _shapes_of(array):
        raise ValueError(
            f"Arrays must agree with `image_shape`={image_shape}. Got shape {shape}; "
            "leave `image_shape` out unless the rows are flat."
        )
    return array


def _shapes_of(array):
    h, w, c = array.shape
    return (h, w), (h, w, c), (c, h, w)


def _unflatten(row, image_shape):
    if image_shape is None:
        side = round(row.size**0.5)
        example = (side, side) if side * side == row.size else "(h, w)"
        raise ValueError(
            f"Flat rows of {row.size} values need `image_shape` to become images. "
            f"Pass for example `image_shape={example}`, or (h, w, 3) or (3, h, w) "
            "for colour images; or, if X is one gray image, pass `X[None]`."
        )
    expected = int(np.prod(image_shape))
    if row.size != expected:
        hint = ""
        if len(image_shape) == 2 and row.size == 3 * expected:
            hint = f" For colour images add 3: {(*image_shape, 3)} or "
            hint += f"{(3, *image_shape)}."
        raise ValueError(
            f"Flat rows must have {expected} values to be reshaped to `image_shape`="
            f"{image_shape}. Got {row.size} values.{hint}"
        )
    return row.reshape(image_shape)


def array_to_image(
    array: np.ndarray, image_shape: tuple[int, ...] | None, value_range: tuple
) -> Image.Image:
    """Return the RGB image of one array, with an alpha channel laid over white."""
    pixels = to_uint8(channels_last(array, image_shape), value_range)  # (h, w, c)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return image if image.mode == "RGB" else over_white(image)


def over_white(image: Image.Image) -> Image.Image:
    """Lay an RGBA image over white and drop its alpha channel."""
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def check_value_range(value_range):
    """Return the parameter `value_range` as a tuple (low, high), or None for "auto"."""
    if value_range is None or (isinstance(value_range, str) and value_range == "auto"):
        return None
    valid = (
        isinstance(value_range, (tuple, list))
        and len(value_range) == 2
        and all(isinstance(v, Real) and np.isfinite(v) for v in value_range)
        and value_range[0] < value_range[1]
    )
    if not valid:
        raise ValueError(
            "`value_range` must be 'auto' or a pair (low, high) of finite numbers "
            f"with low < high. Got {value_range!r}."
        )
    return tuple(value_range)


def to_uint8(pixels: np.ndarray, value_range: tuple) -> np.ndarray:
    """Scale values from `value_range` to 0 to 255, and round them.

    Values outside the range by more than the rounding of floats raise a ValueError.
    Values of dtype bool are black and white in any range.
    """
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    low, high = value_range
    if pixels.dtype == np.uint8 and (low, high) == (0, 255):
        return pixels
    outside = _is_outside(pixels, value_range)
    if not np.isfinite(pixels[outside]).all():
        raise ValueError("Values must be finite. The image holds NaN or infinity.")
    if outside.any():
        hint = f", such as {likely_range(pixels.max())}" if pixels.min() >= 0 else ""
        raise ValueError(
            f"Values must be within `value_range`={value_range}. Got "
            f"{_format(pixels[outside][0], value_range)} in an image with values from "
            f"{pixels.min():g} to {pixels.max():g}; scale all images alike, or pass "
            f"another `value_range`{hint}."
        )
    pixels = pixels.astype(np.float64).clip(low, high)
    return np.rint((pixels - low) * 255 / (high - low)).astype(np.uint8)


def _is_outside(values, value_range):
    """Return a mask of the values, NaN included, that are outside a range."""
    low, high = value_range
    tolerance = _tolerance(values.dtype) * max(high - low, abs(low), abs(high))
    if values.dtype == np.float16:  # give the limits room
        values = values.astype(np.float32)
    return ~((low - tolerance <= values) & (values <= high + tolerance))


def _format(value, limits):
    """Return a value as text, with all its digits if it would read as a limit."""
    short = f"{value:g}"
    return f"{value:.17g}" if float(short) in limits else short


def _tolerance(dtype):
    """Return the share of a range by which rounding may move values out of it."""
    if dtype.kind != "f":
        return 0.0
    # Doubles may have been single floats before.
    return float(_ROUNDING * max(np.finfo(dtype).eps, np.finfo(np.float32).eps))


def range_of_dtype(dtype: np.dtype) -> tuple[int, int]:
    """Return the values that stand for black and full intensity in a dtype.

    These are 0 and 1 for bool and floats, 0 and 65535 for uint16, 0 and 255 for all
    other integers.
    """
    if dtype.kind in "bf":
        return (0, 1)
    return (0, 65535) if dtype.newbyteorder("=") == np.uint16 else (0, 255)


def resolve_value_range(values: Any, value_range: Any = "auto") -> tuple | None:
    """Decide which values stand for black and full intensity, and check `Values`.

    The dtypes decide where the range is "auto" or None (see `range_of_dtype`); the
    result is None if no sample has values of its own. All values in memory are checked
    here. Encoded images and items of datasets are read only until one is not dark; the
    others are checked by `to_uint8` when they are used. NaN, values out of the range,
    and dtypes of different ranges raise a ValueError. A warning says so if all images
    would be nearly black.
    """
    given = check_value_range(value_range)
    if given is None and not values.dtypes:
        return None
    value_range = given or common_range(values.dtypes)
    dark = _darkness_limit(values.dtypes, value_range, given is not None)
    seen = _scan(values, value_range, dark)
    if seen.row is not None:
        raise _out_of_range(seen, value_range, given is not None)
    if dark and seen.high <= dark:
        _warn_if_dark(seen, value_range, given is not None)
    return value_range


def common_range(dtypes: Iterable[np.dtype]) -> tuple:
    """Return the range that dtypes share; bool agrees with any."""
    dtypes = {*dtypes} - {np.dtype(bool)}
    ranges = {range_of_dtype(dtype) for dtype in dtypes} or {(0, 1)}
    if len(ranges) > 1:
        raise ValueError(
            "`value_range` cannot be decided for images of the dtypes "
            f"{sorted(map(str, dtypes))} in one X. Convert them to one dtype, or pass "
            "`value_range=(low, high)`."
        )
    return ranges.pop()


def range_beside(dtype: np.dtype, value_range: tuple | None) -> tuple:
    """Return the range of one sample, which must agree with that of the others."""
    own = range_of_dtype(dtype)
    if dtype.kind == "b" or value_range in (None, own):
        return own
    raise ValueError(
        f"`value_range` cannot be decided for an image of dtype {dtype}, whose range "
        f"is {own}, beside others in {value_range}. Convert them to one dtype, or pass "
        "`value_range=(low, high)`."
    )


def _darkness_limit(dtypes, value_range, is_given):
    """Return the value that dark images do not exceed; None if they are expected."""
    low, white = value_range
    has_floats = any(dtype.kind == "f" for dtype in dtypes)
    if is_given:  # fractions where whole numbers are expected
        return 1.0 if has_floats and low == 0 and white >= _PART else None
    has_bool_only = dtypes <= {np.dtype(bool)}
    return None if has_bool_only else white / (_FRACTION if has_floats else _PART)


class _Extent:
    """The extent of the values seen, and the first value that is out of range."""

    def __init__(self):
        self.low, self.high, self.size, self.is_whole = np.inf, -np.inf, 0, True
        self.row = self.value = self.dtype = None  # of the first out of range

    def add(self, row, block, value_range):
        self.low = min(self.low, float(block.min()))
        self.high = max(self.high, float(block.max()))
        self.size += block.size
        self.is_whole = self.is_whole and _is_whole(block)
        if self.row is None and not _always_within(block.dtype, value_range):
            outside = _is_outside(block, value_range)
            if outside.any():
                self.row, self.dtype = row + _first_row(outside), block.dtype
                self.value = block[outside][0]


def _scan(values, value_range, dark):
    """Look at values in memory, and read others until one is not dark."""
    seen = _Extent()
    always = all(_always_within(dtype, value_range) for dtype in values.dtypes)
    for row, block in _finite(values.blocks(), values.on_error):
        if always and (not dark or seen.high > dark):
            break
        seen.add(row, block, value_range)
    if dark and seen.high <= dark:
        for row, block in _finite(values.read_blocks(), values.on_error):
            seen.add(row, block, value_range)
            if seen.high > dark:
                break
    return seen


def _finite(blocks, on_error):
    """Yield blocks without values of bool, and without samples that are not finite."""
    for row, block in blocks:
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            finite = np.isfinite(block.reshape(len(block), -1)).all(axis=1)
            if on_error == "raise":
                raise ValueError(
                    "X must not hold NaN or infinity. Got one in sample "
                    f"{row + int(np.argmin(finite))}; drop the sample or fill the "
                    "value in."
                )
            block = block[finite]
        if len(block) and block.dtype != bool:
            yield row, block


def _is_whole(block):
    if block.dtype.kind != "f":
        return True
    return bool((np.abs(block - np.rint(block)) <= _NEARLY_WHOLE).all())


def _out_of_range(seen, value_range, is_given):
    """Return the ValueError for values outside a range."""
    if is_given:
        return ValueError(
            f"Values must be within `value_range`={value_range}. Got "
            f"{_format(seen.value, value_range)} in sample {seen.row}; scale all "
            "images alike, or pass another `value_range`."
        )
    found = (
        f"Got values from {_format(seen.low, (0,))} to "
        f"{_format(seen.high, value_range)}, the first outside in sample {seen.row}"
    )
    rule = f"within {value_range} for dtype {seen.dtype}, where `value_range` is 'auto'"
    return ValueError(_what_values_look_like(seen, value_range, rule, found))


def _what_values_look_like(seen, value_range, rule, found):
    """Return a message that names the mistake that values outside a range hint at."""
    is_near = seen.low >= -_OVERSHOOT and seen.high <= 1 + _OVERSHOOT
    if is_near and value_range == (0, 1):
        return (
            f"The values of X must be {rule}. {found}. If they overshoot, as those of "
            "a bicubic interpolation do, pass `X.clip(0, 1)`; or pass `value_range="
            "(low, high)`, the values that stand for black and full intensity."
        )
    if seen.high < _WHITES[0] / _PART and (seen.low < 0 or not seen.is_whole):
        return (
            f"The values of X look normalised already: they must be {rule}. {found}. "
            "Undo the normalisation (the backbone's own is applied), or pass "
            "`value_range=(low, high)`, the values that stand for black and full "
            "intensity."
        )
    overshoots = seen.low < 0
    likely = likely_range(seen.high / (1 + _OVERSHOOT) if overshoots else seen.high)
    clip = f"clip them, as by `X.clip{likely}`, and " if overshoots else ""
    return (
        f"The values of X must be {rule}. {found}; {clip}pass `value_range={likely}`, "
        "or the values that stand for black and full intensity."
    )


def likely_range(high: float) -> tuple:
    """Return the range that values up to `high` probably have."""
    for white in _WHITES:
        if white / _PART < high <= white:
            return (0, white)
    return (0, int(np.ceil(high)))


def _warn_if_dark(seen, value_range, is_given):
    if is_given and not seen.is_whole:
        warnings.warn(
            f"`value_range` is {value_range}, but the values of X lie between "
            f"{seen.low:g} and {seen.high:g}: all images will be nearly black. Scale "
            "them like those of `fit`, or pass `value_range=(0, 1)`.",
            stacklevel=4,
        )
    if not is_given and seen.high > max(seen.low, 0) and seen.size >= _FEWEST:
        warnings.warn(
            f"The range of values for the dtype of X is 0 to {value_range[1]}, but no "
            f"value is above {seen.high:g}: all images will be nearly black. Pass "
            f"`value_range=(0, {seen.high:g})`, or the values of black and white.",
            stacklevel=4,
        )


def _always_within(dtype, value_range):
    low, high = value_range
    is_within = dtype.kind == "u" and low <= 0 and np.iinfo(dtype).max <= high
    return dtype.kind == "b" or is_within


def _first_row(mask):
    return int(np.argmax(mask.reshape(len(mask), -1).any(axis=1)))
