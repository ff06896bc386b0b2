"""The items of X (an array, a list, a data frame or a dataset), and their values."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from sktransfer.inputs._modality import UnreadableSampleError
from sktransfer.inputs._reading import has_no_order, to_numpy, without_pyarrow
from sktransfer.inputs.images._columns import images_of_column, is_dataset_column
from sktransfer.inputs.images._datasets import (
    DatasetItems,
    Raw,
    Unreadable,
    explain,
    read_dataset,
    stack_labels,
    unreadable_image,
)
from sktransfer.inputs.images._files import deep_dtype, visible_values
from sktransfer.inputs.images._pixels import channels_last
from sktransfer.inputs.images._stored import StoredImage

KINDS = (
    "a list of paths, of PIL images, of arrays or of encoded images, an array or "
    "tensor, a column of a data frame, or a map-style dataset"
)

BLOCK = 2**20  # values of an array that are checked at once
# Types of a whole image: a pair that starts with one is (image, label).
WHOLE = (str, bytes, Image.Image, np.ndarray, torch.Tensor, StoredImage)
ENCODED = (str, bytes, StoredImage)  # what is read or decoded when it is needed


def collect(
    X: Any, image_shape: tuple[int, ...] | None = None, on_error: str = "raise"
) -> Raw:
    """Return the raw samples of X, each checked as far as is cheap.

    Items of a list are str (paths), bytes (encoded images), PIL images, arrays and, in
    place of images that cannot be read, `Unreadable`. With ``on_error="warn"`` these
    raise no error before they are read.
    """
    if isinstance(X, Dataset):
        raw = read_dataset(X)
    elif _is_labelled(X):
        raw = Raw(_as_items([image for image, _ in X]), labels=_labels_of(X))
    else:
        raw = Raw(_as_items(X))
    items = raw.items
    rows = range(len(items)) if raw.indices is None else raw.indices
    if len(rows) == 0:
        raise ValueError("X must have at least 1 sample. Got 0.")
    if isinstance(items, np.ndarray):
        _check_images(items, image_shape)
    elif not isinstance(items, DatasetItems):
        for row, index in enumerate(rows):
            items[index] = _check_item(items[index], image_shape)
            if on_error == "raise" and isinstance(items[index], Unreadable):
                raise items[index].error(row)
    return raw


def _is_labelled(X):
    """Whether X is a list of pairs (image, label), as datasets return them."""
    return (
        isinstance(X, list)
        and len(X) > 0
        and all(
            isinstance(pair, tuple)
            and len(pair) == 2
            and isinstance(pair[0], WHOLE)
            and (isinstance(pair[1], str) or np.ndim(pair[1]) == 0)
            for pair in X
        )
    )


def _labels_of(pairs):
    labels = stack_labels([label for _, label in pairs])
    return lambda indices: labels[indices]


def _as_items(X):
    """Return X as a numeric ndarray or as a list of samples."""
    _check_collection(X)
    X = images_of_column(X) if is_dataset_column(X) else without_pyarrow(X)
    if isinstance(X, Sequence):
        return [_as_item(item, row) for row, item in enumerate(X)]
    array = to_numpy(X)
    if array.ndim == 0:
        raise TypeError(
            f"X must be a collection of samples: {KINDS}. Got a single value; pass a "
            "list, `[X]`."
        )
    if array.dtype.kind not in "OSUT":
        return array
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 1:
        return [_as_item(item, row) for row, item in enumerate(array)]
    return _as_numbers(array)


def _check_collection(X):
    """Raise a TypeError if X is one sample, or has no length or order."""
    if isinstance(X, (str, bytes, os.PathLike, Image.Image)):
        raise TypeError(
            f"X must be a collection of samples: {KINDS}. Got one "
            f"{type(X).__name__}; pass a list, `[X]`, or for a folder "
            "of classes `paths, y = sktransfer.inputs.image_folder(X)`."
        )
    if isinstance(X, DataLoader):
        raise TypeError(
            f"X must be a collection of samples: {KINDS}. Got a {type(X).__name__}; "
            "pass its dataset, `X.dataset`. Batches are made by `batch_size`."
        )
    if hasattr(X, "tocsr"):
        raise TypeError(
            f"X must be dense. Got a sparse {type(X).__name__}; pass `X.toarray()`."
        )
    has_items = hasattr(X, "__len__") or hasattr(X, "__array__")
    if not has_items or has_no_order(X):
        hint = "; pass `list(X)` of its samples" if hasattr(X, "__iter__") else ""
        raise TypeError(
            f"X must be a collection with a length and an order: {KINDS}. Got "
            f"{type(X).__name__}{hint}."
        )


def _as_numbers(array):
    try:
        found = np.asarray(array.tolist())  # integers stay integers
        return found if found.dtype.kind in "buif" else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            "X must be one column of images, or all numbers. Got "
            f"{type(array.flat[0]).__name__} in an array of shape {array.shape}; "
            "select the column that holds the images, as in `X[['path']]`."
        ) from error


def _as_item(item, row):
    """Return one sample as str, bytes, PIL image, ndarray or Unreadable.

    The library datasets stores images as dicts of their bytes and their path, of which
    one may be None.
    """
    if isinstance(item, Mapping) and item.keys() == {"bytes", "path"}:
        item = item["path"] if item["bytes"] is None else item["bytes"]
    if isinstance(item, (Image.Image, bytes, StoredImage)):
        return item
    if isinstance(item, (str, os.PathLike)):
        return str(os.fspath(item))  # not numpy's str, for its repr
    if isinstance(item, (bytearray, memoryview)):
        return bytes(item)
    if isinstance(item, (np.ndarray, torch.Tensor)):
        array = to_numpy(item)
        _check_flat(array, row)
        return array
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], WHOLE):
        raise TypeError(
            f"X must hold images, or pairs (image, label) throughout. Got a pair as "
            f"sample {row}; pass the images as X and the labels as y."
        )
    if isinstance(item, (list, tuple)):
        return _nested(item, row)
    if _is_missing(item):
        return Unreadable(f"the value is missing ({item!r})")
    if hasattr(item, "read"):
        return _content(item, row)
    raise TypeError(
        "A sample must be a path, a PIL image, an array, a tensor or the bytes of an "
        f"image file. Got {item!r} ({type(item).__name__}) as sample {row}."
    )


def _content(file, row):
    """Return all bytes of an open file, which can be read again."""
    is_seekable = file.seekable()
    if is_seekable:
        file.seek(0)
    content = file.read()
    if not isinstance(content, bytes):
        raise TypeError(
            f"An open file must be binary. Got {type(content).__name__} from sample "
            f"{row}; open it with `open(path, 'rb')`, or pass its path."
        )
    if is_seekable:
        file.seek(0)
    return content


def _nested(item, row):
    _check_flat(item, row)
    try:
        return np.asarray(item)
    except ValueError as error:
        reason = "nested lists must have rows of one length"
        return Unreadable(reason, cause=error)


def _check_flat(item, row):
    """Raise a TypeError if one sample is a list of paths, images or encoded images."""
    first = item.flat[0] if isinstance(item, np.ndarray) and item.size else None
    if isinstance(item, (list, tuple)) and item:
        first = item[0]
    if isinstance(first, (str, bytes, os.PathLike, Image.Image)):
        raise TypeError(
            "A sample must be a path, a PIL image, an array, a tensor or the bytes of "
            f"an image file. Got {len(item)} of type {type(first).__name__} in a list "
            f"as sample {row}; pass one flat list, as by "
            "`[image for row in X for image in row]`."
        )


def _is_missing(item):
    if isinstance(item, float):
        return item != item
    return item is None or type(item).__name__ in ("NAType", "NaTType")


def _check_images(images, image_shape):
    shape = images.shape
    if not 2 <= images.ndim <= 4:
        raise ValueError(
            "An array of images must have 2 (flat rows), 3 (gray) or 4 (colour) "
            f"dimensions. Got {images.ndim}, shape {shape}. Reshape your data; one "
            "image is `X[None]`."
        )
    if images.ndim == 2 and shape[1] == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={shape}) while a minimum of 1 is "
            "required."
        )
    if images.ndim == 3 and image_shape is None:
        if shape[2] in (3, 4) and min(shape[:2]) > 4:
            raise ValueError(
                f"X looks like one colour image. Got shape {shape}; pass `X[None]`, "
                f"or `image_shape={shape[1:]}` if it is {shape[0]} gray images."
            )
    channels_last(images[0], image_shape)


def _check_item(item, image_shape):
    """Return the item, or Unreadable in its place."""
    if isinstance(item, np.ndarray):
        try:
            channels_last(item, image_shape)
        except ValueError as error:
            return Unreadable(str(error), cause=error)
    if not isinstance(item, str) or os.path.isfile(item):
        return item
    if os.path.isdir(item):
        reason = (
            "it is a directory; pass the files in it, or what "
            "`sktransfer.inputs.image_folder` lists of its parent"
        )
    else:
        reason = f"the file does not exist; relative paths start at {os.getcwd()!r}"
        if any(map(str.isspace, item)):
            reason += ". If X holds texts and no paths, pass backbone='minilm'"
    return Unreadable(reason, item)


class Values:
    """The values of X that a value range applies to.

    These are the values of arrays, and of files and gray PIL images with more than 8
    bits per channel. `items` are the raw samples, and `indices` those that are looked
    at; None for all. With ``on_error="warn"`` items that cannot be read are skipped.

    ``dtypes`` holds the dtypes of the values, in native byte order; of the items of a
    dataset, and of stored images, the first readable one stands for all. Complex values
    raise a ValueError, and values that are not numeric a TypeError.
    """

    def __init__(self, items, indices=None, on_error="raise"):
        self._items = items
        self._indices = np.arange(len(items)) if indices is None else indices
        self._rows = []
        self.on_error = on_error
        self.dtypes = {_check_dtype(dtype) for dtype in self._find_dtypes()}

    def _find_dtypes(self):
        if isinstance(self._items, np.ndarray):
            return {self._items.dtype}
        if not isinstance(self._items, list):
            dtype = _dtype_of(self._first_readable())
            self._rows = [] if dtype is None else range(len(self._indices))
            return {dtype} - {None}
        items = [self._items[i] for i in self._indices]
        of_stored = _dtype_of_first(i for i in items if isinstance(i, StoredImage))
        dtypes = [
            of_stored if isinstance(item, StoredImage) else _dtype_of(item)
            for item in items
        ]
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

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, values of shape (n rows, ...)) of what is in memory.

        Blocks of an array are small enough for temporary copies.
        """
        if isinstance(self._items, np.ndarray):
            step = max(1, BLOCK // max(1, self._items[0].size))
            for row in range(0, len(self._indices), step):
                yield row, self._items[self._indices[row : row + step]]
        elif isinstance(self._items, list):
            yield from self._look_up(lambda item: not isinstance(item, ENCODED))

    def read_blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (row, values of shape (1, ...)) of what must be read or decoded."""
        if isinstance(self._items, list):
            yield from self._look_up(lambda item: isinstance(item, ENCODED))
        elif not isinstance(self._items, np.ndarray):
            yield from self._look_up(lambda item: True)

    def _look_up(self, is_wanted):
        for row in self._rows:
            item = self._items[self._indices[row]]
            values = self._values_of(row, item) if is_wanted(item) else None
            if values is not None and values.size:
                yield row, values[None]

    def _values_of(self, row, item):
        if isinstance(item, np.ndarray):
            return item
        try:
            if isinstance(item, Unreadable):
                raise item.error(row)
            if isinstance(item, StoredImage):
                return visible_values(item.read())
            is_readable = isinstance(item, (str, bytes, Image.Image))
            return visible_values(item) if is_readable else None
        except MemoryError:
            raise
        except Exception as error:
            if self.on_error == "warn":
                return None
            if isinstance(error, UnreadableSampleError):
                raise
            raise unreadable_image(row, name_of(item), explain(error)) from error


def name_of(item: Any) -> str | None:
    """Return the path of a raw sample; None if it has none or it is not known."""
    if isinstance(item, (StoredImage, Unreadable)):
        return item.name
    if isinstance(item, Image.Image):
        return getattr(item, "filename", None)
    return item if isinstance(item, str) else None


def _dtype_of_first(stored):
    """Return the dtype of the first stored image that can be read, None otherwise."""
    for image in stored:
        with suppress(OSError, ValueError):
            return deep_dtype(image.read())
    return None


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
