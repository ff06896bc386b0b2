"""The numbers among the items of X: arrays, and images of more than 8 bits."""

import numpy as np
from PIL import Image

from sktransfer.inputs._deep import deep_dtype, visible_values
from sktransfer.inputs._unreadable import Unreadable, UnreadableSampleError, explain

__all__ = ["BLOCK", "Values"]

BLOCK = 2**20  # values that the pass over an array looks at in one go


class Values:
    """A pass over all values that a range decides on, as often as it is asked for.

    Parameters
    ----------
    items : ndarray of shape (n, ...), list or lazy sequence
        The samples. Files and PIL images count if they are of one channel with more
        than 8 bits.
    indices : ndarray of int or None, default=None
        The items to look at, in this order; None for all.
    on_error : {"raise", "warn"}, default="raise"
        "warn" passes over items that cannot be read.

    Attributes
    ----------
    dtypes : set of numpy.dtype
        In native byte order. In a lazy sequence, that of the first readable item stands
        for all.
    on_error : str
    is_lazy : bool
        Whether items are read whenever they are looked at.

    Raises
    ------
    ValueError
        If an array is complex, or an item cannot be read.
    TypeError
        If an array is not numeric.
    """

    def __init__(self, items, indices=None, on_error="raise"):
        self._items = items
        self._indices = np.arange(len(items)) if indices is None else indices
        self.on_error = on_error
        self.is_lazy = not isinstance(items, (np.ndarray, list))
        self.dtypes = {_check_dtype(dtype) for dtype in self._find_dtypes()}

    def _find_dtypes(self):
        if isinstance(self._items, np.ndarray):
            return {self._items.dtype}
        if self.is_lazy:
            self._rows = range(len(self._indices))
            return {_dtype_of(self._first_readable())} - {None}
        dtypes = [_dtype_of(self._items[i]) for i in self._indices]
        self._rows = [row for row, dtype in enumerate(dtypes) if dtype is not None]
        return {*dtypes} - {None}

    def _first_readable(self):
        for row, index in enumerate(self._indices):
            item = self._items[index]
            if not isinstance(item, Unreadable):
                return item
            if self.on_error == "raise":
                raise item.error(row)
        return None

    def blocks(self):
        """Yield (first row, values), values of shape (number of rows, ...).

        Blocks of an array are small enough for temporary copies.
        """
        if isinstance(self._items, np.ndarray):
            step = max(1, BLOCK // max(1, self._items[0].size))
            for row in range(0, len(self._indices), step):
                yield row, self._items[self._indices[row : row + step]]
            return
        for row in self._rows:
            values = self._values_of(row)
            if values is not None and values.size:
                yield row, values[None]

    def _values_of(self, row):
        item = self._items[self._indices[row]]
        if isinstance(item, np.ndarray):
            return item
        try:
            if isinstance(item, Unreadable):
                raise item.error(row)
            is_readable = isinstance(item, (str, bytes, Image.Image))
            return visible_values(item) if is_readable else None
        except MemoryError:
            raise
        except Exception as error:
            if self.on_error == "warn":
                return None
            if isinstance(error, UnreadableSampleError):
                raise
            name = item if isinstance(item, str) else getattr(item, "filename", None)
            raise UnreadableSampleError(row, name, explain(error)) from error


def _dtype_of(item):
    return item.dtype if isinstance(item, np.ndarray) else deep_dtype(item)


def _check_dtype(dtype):
    if dtype.kind == "c":
        raise ValueError(
            f"Complex data not supported: got dtype {dtype}. Pass `X.real`, or "
            "`abs(X)`."
        )
    if dtype.kind not in "buif":
        raise TypeError(
            f"Arrays of images must be real numbers or bool. Got dtype {dtype}."
        )
    return dtype.newbyteorder("=")
