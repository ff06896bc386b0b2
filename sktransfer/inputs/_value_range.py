"""Which values of an array stand for black and for full intensity."""

import warnings
from numbers import Real

import numpy as np

from sktransfer.inputs._unreadable import Unreadable

_FEWEST = 100  # values below which the highest says little
BLOCK = 2**20  # values that the pass over an array looks at in one go

# Dtypes that say themselves how far their values reach.
DTYPE_RANGES = {
    np.dtype(bool): (0, 1),
    np.dtype(np.uint8): (0, 255),
    np.dtype(np.uint16): (0, 65535),
}


def resolve_value_range(items, value_range="auto", indices=None, on_error="raise"):
    """Decide which values stand for black and for full intensity.

    Parameters
    ----------
    items : ndarray of shape (n, ...), list or lazy sequence
        The samples. In a list, only the arrays are looked at. In any other
        sequence, the first readable item stands for the kind of all: they are read
        only if it is an array whose dtype leaves the range open, and a given range is
        left to `to_uint8` to check.
    value_range : "auto", None or tuple of float (low, high), default="auto"
        The range, which all values are checked against, or "auto" or None to
        decide: 255 for uint8, 65535 for uint16, 1 for bool. For other dtypes it
        is the smallest of 1, 16, 255 and 65535 that no value exceeds; above 1
        only whole numbers are taken, since others look normalised already.
    indices : ndarray of int or None, default=None
        The items to look at, in this order; None for all.
    on_error : {"raise", "warn"}, default="raise"
        "warn" passes over items that cannot be read or hold NaN or infinity.

    Returns
    -------
    value_range : tuple of float (low, high) or None
        None where there is no array among `items` and no range was given.

    Raises
    ------
    TypeError
        If an array is not numeric.
    ValueError
        If `value_range` is no range, or a value is NaN, infinite, out of the
        range or cannot be that of an image.

    Warns
    -----
    UserWarning
        If a range up to 16 or more is given, but all values are fractions up to 1; or
        if an array of whole numbers uses a fifteenth of its dtype's values at most.
    """
    value_range = check_value_range(value_range)
    dtypes = _dtypes(items, indices, on_error)
    if value_range is None:
        return _infer(items, indices, dtypes, on_error) if dtypes else None
    if isinstance(items, (np.ndarray, list)):
        for row, block in _blocks(items, indices, on_error):
            _check_within(row, block, value_range, on_error)
        if any(dtype.kind == "f" for dtype in dtypes):
            _warn_if_dark(*_extent(items, indices, on_error), value_range)
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
        Values within `value_range`, of any shape and numeric dtype. Those of
        dtype bool are black and white whatever the range.
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
    pixels = _widen(pixels)
    outside = ~((low <= pixels) & (pixels <= high))  # NaN is outside, too
    if not np.isfinite(pixels[outside]).all():
        raise ValueError("Values must be finite. The image holds NaN or infinity.")
    if outside.any():
        raise ValueError(
            f"Values must be within `value_range`={value_range}. "
            f"Got {pixels[outside][0]:g}."
        )
    scaled = (pixels.astype(np.float64) - low) * 255 / (high - low)
    return np.rint(scaled).astype(np.uint8)


def _dtypes(items, indices, on_error):
    if isinstance(items, np.ndarray):
        dtypes = {items.dtype}
    else:
        if not isinstance(items, list):
            items = [_first_readable(items, indices, on_error)]
        dtypes = {item.dtype for item in items if isinstance(item, np.ndarray)}
    for dtype in dtypes:
        if dtype.kind == "c":
            raise ValueError(
                f"Complex data not supported: got dtype {dtype}. Pass `X.real`, or "
                "`abs(X)`."
            )
        if dtype.kind not in "buif":
            raise TypeError(
                f"Arrays of images must be real numbers or bool. Got dtype {dtype}."
            )
    return {dtype.newbyteorder("=") for dtype in dtypes}


def _first_readable(items, indices, on_error):
    for row, index in enumerate(range(len(items)) if indices is None else indices):
        item = items[index]
        if not isinstance(item, Unreadable):
            return item
        if on_error == "raise":
            raise item.error(row)
    return None


def _blocks(items, indices, on_error):
    """Yield (first row, block of rows), small enough for temporary copies."""
    n = len(items) if indices is None else len(indices)
    if not isinstance(items, np.ndarray):
        for row in range(n):
            item = items[row if indices is None else indices[row]]
            if isinstance(item, np.ndarray):
                yield row, _widen(item[None])
            elif isinstance(item, Unreadable) and on_error == "raise":
                raise item.error(row)
        return
    step = max(1, BLOCK // max(1, items[0].size))
    for row in range(0, n, step):
        rows = slice(row, row + step)
        yield row, _widen(items[rows if indices is None else indices[rows]])


def _widen(values):
    """Give half floats room for the limits that they are compared with."""
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _infer(items, indices, dtypes, on_error):
    dtypes = dtypes - {np.dtype(bool)}
    if not dtypes:
        return (0, 1)
    if len(dtypes) == 1 and not dtypes.isdisjoint(DTYPE_RANGES):
        value_range = DTYPE_RANGES[dtypes.pop()]
        _warn_if_unused(items, indices, value_range[1])
        return value_range
    if not dtypes.isdisjoint(DTYPE_RANGES):
        raise ValueError(
            "`value_range` cannot be decided for arrays of the dtypes "
            f"{sorted(map(str, dtypes))} in one X. Convert them to one dtype, or pass "
            "`value_range=(low, high)`."
        )
    return _range_of(*_extent(items, indices, on_error))


def _extent(items, indices, on_error):
    """Return the lowest and the highest value, and whether all are whole."""
    low, high, whole = np.inf, -np.inf, True
    for row, block in _blocks(items, indices, on_error):
        if on_error == "warn":
            block = block[np.isfinite(block.reshape(len(block), -1)).all(axis=1)]
        if block.dtype == bool or not len(block):
            continue
        _check_finite(row, block)
        low, high = min(low, block.min()), max(high, block.max())
        if whole and block.dtype.kind == "f":
            whole = bool((block == np.rint(block)).all())
    return low, high, whole


def _range_of(low, high, whole):
    found = f"Got values from {low:g} to {high:g}"
    if low < 0 or (high > 1 and not whole):
        raise ValueError(
            "The values of X look normalised already: images must be in [0, 1] or "
            f"whole numbers from 0 to 255. {found}. Undo the normalisation (the "
            "backbone's own is applied), or pass `value_range=(low, high)`, the "
            "values that stand for black and full intensity."
        )
    for limit in (1, 16, 255, 65535):
        if high <= limit:
            return (0, limit)
    raise ValueError(
        f"The values of X must not exceed 65535. {found}; pass "
        "`value_range=(low, high)`, the values that stand for black and full "
        "intensity."
    )


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
    outside = (block < value_range[0]) | (block > value_range[1])
    outside &= np.isfinite(block)
    if not outside.any():
        return
    raise ValueError(
        f"Values must be within `value_range`={value_range}. Got "
        f"{block[outside][0]:g} in sample {row + _first_row(outside)}; scale all "
        "images alike, or pass another `value_range`."
    )


def _warn_if_dark(low, high, whole, value_range):
    """Tell images in [0, 1] from images in `value_range`: they would be black."""
    if value_range[0] != 0 or value_range[1] < 16 or whole or high > 1:
        return
    warnings.warn(
        f"`value_range` is {value_range}, but the values of X lie between {low:g} and "
        f"{high:g}: all images will be nearly black. Scale them like those of `fit`, "
        "or pass `value_range=(0, 1)`.",
        stacklevel=4,
    )


def _warn_if_unused(items, indices, white):
    """Tell images that use a sixteenth of the values of their dtype, or less."""
    if not isinstance(items, np.ndarray) or items.size < _FEWEST:
        return
    lowest, highest = white, 0
    for _, block in _blocks(items, indices, "raise"):
        lowest, highest = min(lowest, block.min()), max(highest, int(block.max()))
        if highest > white / 15:  # 12 bits of 16, and 16 of 255, are less
            return
    if highest > lowest:
        warnings.warn(
            f"X has dtype {items.dtype}, whose white is {white}, and no value above "
            f"{highest}: all images will be nearly black. Pass "
            f"`value_range=(0, {highest})`, or the values of black and white.",
            stacklevel=4,
        )


def _always_within(dtype, value_range):
    if dtype.kind == "b":
        return True
    low, high = DTYPE_RANGES.get(dtype.newbyteorder("="), (-np.inf, np.inf))
    return value_range[0] <= low and high <= value_range[1]


def _first_row(mask):
    return int(np.argmax(mask.reshape(len(mask), -1).any(axis=1)))
