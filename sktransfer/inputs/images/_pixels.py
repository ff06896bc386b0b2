"""Array samples: their layout, their range of values, and their way to RGB images."""

import warnings
from numbers import Integral, Real

import numpy as np
from PIL import Image

CHANNELS_LAST = (1, 3, 4)
CHANNELS_FIRST = (1, 3)
_FEWEST = 100  # values below which the highest says little
_ROUNDING = 4  # steps of a float that a few sums and products may be off by
_NEARLY_WHOLE = 1e-5
_WHITES = (1, 16, 255, 65535)
_FINE = 255  # ranges up to this or more may be far too wide

# Dtypes that say themselves how far their values reach.
DTYPE_RANGES = {
    np.dtype(bool): (0, 1),
    np.dtype(np.uint8): (0, 255),
    np.dtype(np.uint16): (0, 65535),
}


def check_image_shape(image_shape):
    """Return `image_shape` as a tuple of 2 or 3 ints, or None.

    Parameters
    ----------
    image_shape : tuple of int or None
        (h, w), (h, w, c) or (c, h, w), in px.

    Returns
    -------
    image_shape : tuple of int or None
        The same, as a tuple.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if image_shape is None:
        return None
    valid = (
        isinstance(image_shape, (tuple, list))
        and len(image_shape) in (2, 3)
        and all(isinstance(k, Integral) and k >= 1 for k in image_shape)
    )
    if valid and len(image_shape) == 3:
        valid = image_shape[2] in CHANNELS_LAST or image_shape[0] in CHANNELS_FIRST
    if not valid:
        raise ValueError(
            "`image_shape` must be (h, w), (h, w, c) with 1, 3 or 4 channels, or "
            f"(c, h, w) with 1 or 3 channels. Got {image_shape!r}."
        )
    return tuple(int(k) for k in image_shape)


def channels_last(array, image_shape=None):
    """View one sample as (h, w, c).

    Parameters
    ----------
    array : ndarray of shape (h, w), (h, w, c), (c, h, w) or (d,)
        One sample. Where both the first and the last axis can be the channels,
        the last axis is.
    image_shape : tuple of int or None, default=None
        What a flat sample is reshaped to, and what any other has to agree with.

    Returns
    -------
    pixels : ndarray of shape (h, w, c)
        A view, with 1, 3 or 4 channels.

    Raises
    ------
    ValueError
        If the shape is not that of an image or does not agree with `image_shape`.
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
                f"in its first. Got shape {shape}; select or convert the channels."
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
            "for colour images."
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


def array_to_image(array, image_shape, value_range):
    """Return the RGB image of one array sample.

    Parameters
    ----------
    array : ndarray of shape (h, w), (h, w, c), (c, h, w) or (d,)
        One sample.
    image_shape : tuple of int or None
        See `channels_last`.
    value_range : tuple of float (low, high)
        The values that stand for black and for full intensity.

    Returns
    -------
    image : PIL.Image.Image
        In mode RGB; an alpha channel is laid over white.

    Raises
    ------
    ValueError
        If shape or values are not those of an image.
    """
    pixels = to_uint8(channels_last(array, image_shape), value_range)  # (h, w, c)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return image if image.mode == "RGB" else over_white(image)


def over_white(image):
    """Lay an RGBA image over white and drop its alpha channel."""
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def resolve_value_range(values, value_range="auto"):
    """Decide which values stand for black and for full intensity.

    Parameters
    ----------
    values : Values
        Those of X. Where X is lazy, the first readable item stands for the kind of all:
        they are read only if it has values whose dtype leaves the range open, and a
        given range is left to `to_uint8` to check.
    value_range : "auto", None or tuple of float (low, high), default="auto"
        The range, which all values are checked against, or "auto" or None to
        decide: 255 for uint8, 65535 for uint16, 1 for bool. For other dtypes it
        is the smallest of 1, 16, 255 and 65535 that no value exceeds; between 1 and 16
        only whole numbers are taken, since others look normalised already.

    Returns
    -------
    value_range : tuple of float (low, high) or None
        None where no item has values of its own and no range was given.

    Raises
    ------
    ValueError
        If `value_range` is no range, or a value is NaN, infinite, out of the
        range or cannot be that of an image.

    Warns
    -----
    UserWarning
        If a range up to 16 or more is given, but all values are fractions up to 1; or
        if no value exceeds a fifteenth of the range that was decided.
    """
    value_range = check_value_range(value_range)
    if value_range is None:
        return _infer(values) if values.dtypes else None
    if not values.is_lazy:
        for row, block in values.blocks():
            _check_within(row, block, value_range, values.on_error)
    if any(dtype.kind == "f" for dtype in values.dtypes):
        _warn_if_dark(values, value_range)
    return value_range


def check_value_range(value_range):
    """Return a tuple of two floats, or None for "auto".

    Parameters
    ----------
    value_range : "auto", None or tuple of float (low, high)
        The parameter as the user gave it.

    Returns
    -------
    value_range : tuple of float (low, high) or None
        The range, None where it is to be decided.

    Raises
    ------
    ValueError
        If it is not two finite numbers in rising order.
    """
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


def to_uint8(pixels, value_range):
    """Scale values to 0 to 255 and round them.

    Parameters
    ----------
    pixels : ndarray
        Values within `value_range`, up to the rounding of floats, of any shape and
        numeric dtype. Those of dtype bool are black and white whatever the range.
    value_range : tuple of float (low, high)
        The values that become 0 and 255.

    Returns
    -------
    pixels : uint8 ndarray
        ``round(255 * (pixels - low) / (high - low))``.

    Raises
    ------
    ValueError
        If a value is out of the range.
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
        raise ValueError(
            f"Values must be within `value_range`={value_range}. "
            f"Got {_say(pixels[outside][0], value_range)}."
        )
    pixels = pixels.astype(np.float64).clip(low, high)
    return np.rint((pixels - low) * 255 / (high - low)).astype(np.uint8)


def _is_outside(values, value_range):
    """Find the values that are out of a range by more than rounding; NaN is, too."""
    low, high = value_range
    slack = _slack(values.dtype) * max(high - low, abs(low), abs(high))
    if values.dtype == np.float16:  # give the limits room
        values = values.astype(np.float32)
    return ~((low - slack <= values) & (values <= high + slack))


def _say(value, limits):
    """Write a value, with all its digits where it would read as a limit (str)."""
    short = f"{value:g}"
    return f"{value:.17g}" if float(short) in limits else short


def _slack(dtype):
    """Return the share of a range that rounding may bring values out of it."""
    if dtype.kind != "f":
        return 0.0
    # Doubles may have been single floats before.
    return float(_ROUNDING * max(np.finfo(dtype).eps, np.finfo(np.float32).eps))


def range_of_dtype(dtype, decided_by, value_range):
    """Return the range of one sample where a range was decided for all of X.

    Parameters
    ----------
    dtype : numpy.dtype
        Of the sample.
    decided_by : set of numpy.dtype
        Of the samples that were looked at: all, or the first item of a dataset.
    value_range : tuple of float (low, high) or None
        What was decided.

    Returns
    -------
    value_range : tuple of float (low, high)

    Raises
    ------
    ValueError
        If the sample is of another kind than those that were looked at.
    """
    dtype, others = dtype.newbyteorder("="), decided_by - {np.dtype(bool)}
    own = DTYPE_RANGES.get(dtype)
    if dtype.kind == "b" or (own and not others):
        return own
    if not others:
        raise ValueError(
            "`value_range` cannot be decided where the first item of a dataset is an "
            f"image of 8 bits and others are not. Got dtype {dtype}; pass "
            "`value_range=(low, high)`."
        )
    if dtype in others or (own is None and others.isdisjoint(DTYPE_RANGES)):
        return value_range
    raise _mixed_dtypes({dtype, *others})


def _mixed_dtypes(dtypes):
    return ValueError(
        "`value_range` cannot be decided for arrays of the dtypes "
        f"{sorted(map(str, dtypes))} in one X. Convert them to one dtype, or pass "
        "`value_range=(low, high)`."
    )


def _infer(values):
    dtypes = values.dtypes - {np.dtype(bool)}
    if not dtypes:
        return (0, 1)
    if len(dtypes) == 1 and not dtypes.isdisjoint(DTYPE_RANGES):
        (dtype,) = dtypes
        value_range = DTYPE_RANGES[dtype]
        _warn_if_unused(values, value_range, f"X has dtype {dtype}, whose white is")
        return value_range
    if not dtypes.isdisjoint(DTYPE_RANGES):
        raise _mixed_dtypes(dtypes)
    value_range = _range_of(*_extent(values), max(map(_slack, dtypes)))
    if value_range[1] >= _FINE:
        _warn_if_unused(values, value_range, "The white of X was taken to be")
    return value_range


def _extent(values):
    """Return the lowest and the highest value, and whether all are whole."""
    low, high, whole = np.inf, -np.inf, True
    for block in _finite_blocks(values, values.on_error):
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        whole = whole and _is_whole(block)
    return low, high, whole


def _finite_blocks(values, on_error="warn"):
    """Yield blocks without the samples that hold NaN or infinity, and without bool."""
    for row, block in values.blocks():
        if block.dtype == bool:
            continue
        if on_error == "raise":
            _check_finite(row, block)
        elif block.dtype.kind == "f":
            block = block[np.isfinite(block.reshape(len(block), -1)).all(axis=1)]
        if len(block):
            yield block


def _is_whole(block):
    if block.dtype.kind != "f":
        return True
    return bool((np.abs(block - np.rint(block)) <= _NEARLY_WHOLE).all())


def _range_of(low, high, whole, slack):
    found = f"Got values from {_say(low, (0,))} to {_say(high, _WHITES)}"
    limits = [limit for limit in _WHITES if high <= limit * (1 + slack)]
    limit = limits[0] if limits else np.inf
    is_negative = low < (-slack * limit if limits else 0)
    if is_negative or (limit == 16 and not whole):
        raise ValueError(
            "The values of X look normalised already: where `value_range` is 'auto', "
            "images must not be negative, and be in [0, 1], whole numbers up to 16, or "
            f"exceed 16. {found}. Undo the normalisation (the backbone's own is "
            "applied), or pass `value_range=(low, high)`, the values that stand for "
            "black and full intensity."
        )
    if not limits:
        raise ValueError(
            f"The values of X must not exceed 65535. {found}; pass "
            "`value_range=(low, high)`, the values that stand for black and full "
            "intensity."
        )
    return (0, limit)


def _check_finite(row, block):
    if np.isfinite(block.min()) and np.isfinite(block.max()):
        return
    bad = row + _first_row(~np.isfinite(block))
    raise ValueError(
        f"X must not hold NaN or infinity. Got one in sample {bad}; drop the sample "
        "or fill the value in."
    )


def _check_within(row, block, value_range, on_error):
    if _always_within(block.dtype, value_range):
        return
    if on_error == "raise":
        _check_finite(row, block)
    outside = _is_outside(block, value_range) & np.isfinite(block)
    if not outside.any():
        return
    raise ValueError(
        f"Values must be within `value_range`={value_range}. Got "
        f"{_say(block[outside][0], value_range)} in sample "
        f"{row + _first_row(outside)}; scale all images alike, or pass another "
        "`value_range`."
    )


def _warn_if_dark(values, value_range):
    """Tell images in [0, 1] from images in `value_range`: they would be black."""
    if value_range[0] != 0 or value_range[1] < 16:
        return
    low, high, whole = np.inf, -np.inf, True
    for block in _finite_blocks(values):
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        if high > 1:
            return
        whole = whole and _is_whole(block)
    if whole:
        return
    warnings.warn(
        f"`value_range` is {value_range}, but the values of X lie between {low:g} and "
        f"{high:g}: all images will be nearly black. Scale them like those of `fit`, "
        "or pass `value_range=(0, 1)`.",
        stacklevel=4,
    )


def _warn_if_unused(values, value_range, what):
    """Tell images that use a fifteenth of a range, or less."""
    _, white = value_range
    lowest, highest, n_values = white, 0, 0
    for block in _finite_blocks(values):
        lowest = min(lowest, float(block.min()))
        highest = max(highest, float(block.max()))
        n_values += block.size
        if highest > white / 15:  # 12 bits of 16, and 16 of 255, are less
            return
    if highest > lowest and n_values >= _FEWEST:
        warnings.warn(
            f"{what} {white}, and no value above {highest:g}: all images will be "
            f"nearly black. Pass `value_range=(0, {highest:g})`, or the values of "
            "black and white.",
            stacklevel=5,
        )


def _always_within(dtype, value_range):
    if dtype.kind == "b":
        return True
    low, high = DTYPE_RANGES.get(dtype.newbyteorder("="), (-np.inf, np.inf))
    return value_range[0] <= low and high <= value_range[1]


def _first_row(mask):
    return int(np.argmax(mask.reshape(len(mask), -1).any(axis=1)))
