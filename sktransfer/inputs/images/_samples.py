"""Images behind one indexable interface, decoded one at a time when asked for."""

import copy
import io
import os
import warnings
from contextlib import contextmanager
from mmap import mmap

import numpy as np
import torch
from PIL import Image

from sktransfer.inputs._modality import UnreadableSampleError
from sktransfer.inputs._reading import to_numpy
from sktransfer.inputs.images._datasets import (
    DatasetItems,
    Unreadable,
    explain,
    stack_labels,
    unreadable_image,
)
from sktransfer.inputs.images._files import content_of, file_content, picture_to_rgb
from sktransfer.inputs.images._items import Values
from sktransfer.inputs.images._pixels import (
    array_to_image,
    check_value_range,
    range_beside,
    resolve_value_range,
)
from sktransfer.utils import digest

__all__ = ["Samples", "open_image"]


class Samples:
    """Image samples, read one at a time.

    Made by `as_samples`. Holds references to the raw samples, so parts are cheap.

    Parameters
    ----------
    raw : Raw
        The raw samples.
    image_shape : tuple of int or None, default=None
        Shape of an array sample.
    value_range : tuple of float (low, high) or None, default=None
        The values that stand for black and full intensity where samples have values of
        their own.
    is_given : bool, default=False
        Whether the range is that of all samples, whatever their dtypes.

    Attributes
    ----------
    value_range : tuple of float (low, high) or None
        None where no sample was found to have values of its own.
    digests : list of bytes or None
        What identifies each sample, once somebody has set it; `take` takes them along,
        and `iter_batches` warns of a sample that has another digest when it is read.
    """

    def __init__(self, raw, *, image_shape=None, value_range=None, is_given=False):
        self._raw = raw
        self._items = raw.items
        n_items = len(raw.items)
        self._indices = np.arange(n_items) if raw.indices is None else raw.indices
        self._image_shape = image_shape
        self.value_range = value_range
        self._is_given = is_given
        self._rows = np.arange(len(self._indices))
        self._told = []  # shared by all parts: a fit warns once
        self.digests = None

    def __len__(self):
        """Return the number of samples."""
        return len(self._indices)

    def __getitem__(self, i):
        """Return sample `i` as a PIL image in mode RGB.

        Raises
        ------
        UnreadableSampleError
            If it cannot be read, with its position in X and its path.
        """
        return self._decoded(i, self._in_memory(i))

    def read(self, i):
        """Read sample `i` once; return its digest (bytes) and its image (RGB, PIL)."""
        item = self._in_memory(i)
        image = self._decoded(i, item)
        return self._identify(item, image), image

    def digest(self, i):
        """Return what identifies sample `i` (bytes).

        A hash of the file or of the encoded image; for arrays, PIL images and datasets,
        of the 8-bit RGB pixels. What is known already is not read again: files that
        have not changed, and items of a dataset that were read for their label.
        """
        if isinstance(self._items, DatasetItems):
            return self._first_reading(i)[0]
        item = self._items[self._indices[i]]
        if not isinstance(item, str):
            return self.read(i)[0] if not isinstance(item, bytes) else self._of(item)
        try:
            return file_content(item, self._raw.upright).identify(self.value_range)
        except OSError as error:
            raise self.unreadable(i, error) from error

    def can_change(self, i):
        """Return whether another reading of sample `i` may differ (bool)."""
        if isinstance(self._items, np.ndarray):
            return _is_mapped(self._items)
        if isinstance(self._items, DatasetItems):
            return True
        item = self._items[self._indices[i]]
        return isinstance(item, str) or _is_mapped(item)

    def warn_of_change(self, i):
        """Warn, once for all parts of X, that sample `i` is not what it was before."""
        if self._told:
            return
        self._told.append(i)
        where = self.describe(i)
        if isinstance(self._items, DatasetItems):
            text = (
                f"The dataset gives {where} differently each time, as random "
                "transforms do. What is computed of such samples is not stored, and "
                "`random_state` does not fix it. Leave random transforms out of the "
                "dataset, and pass them as `augment=`."
            )
        else:
            text = (
                f"{where[0].upper()}{where[1:]} changed while samples were read. What "
                "is computed of it now is not stored; run again once nothing writes to "
                "it."
            )
        warnings.warn(text, stacklevel=2)

    @property
    def labels(self):
        """Labels that came with X, an ndarray of shape (n_samples,), or None.

        Those of a dataset are those of its items, which are all read, unless the
        dataset is of a type that is known to hold its labels as a list.

        Raises
        ------
        ValueError
            If the dataset joins others whose labels mean different classes.
        """
        if self._raw.labels is not None:
            return self._raw.labels(self._indices)
        if not isinstance(self._items, DatasetItems):
            return None
        self._items.check_labels()
        labels = []
        for i in range(len(self)):
            _, label = self._first_reading(i)
            if label is None:
                return None
            labels.append(label)
        return stack_labels(labels)

    def take(self, indices):
        """Return some of the samples, without reading them.

        Parameters
        ----------
        indices : array-like of int or bool
            Which ones, in order.

        Returns
        -------
        Samples
            `describe` still gives their position in X.
        """
        indices = np.arange(len(self))[indices]
        taken = copy.copy(self)
        taken._indices = self._indices[indices]
        taken._rows = self._rows[indices]
        if self.digests is not None:
            taken.digests = [self.digests[i] for i in indices]
        return taken

    def describe(self, i):
        """Return the words for sample `i` in messages, as "sample 3 ('a/b.png')"."""
        return unreadable_image(self._rows[i], self.name(i), "").where

    def name(self, i):
        """Return the path of sample `i`, None if it has none or it is not known."""
        return _name_of(self._items, self._indices[i])

    def unreadable(self, i, error):
        """Return the error for sample `i` that `error` was raised for."""
        return unreadable_image(int(self._rows[i]), self.name(i), explain(error))

    def encoded(self, i):
        """Return the path or the bytes that sample `i` is decoded from, else None."""
        item = self._items[self._indices[i]]
        return item if isinstance(item, (str, bytes)) else None

    def _in_memory(self, i):
        """Return the raw sample; of a file, its bytes."""
        index = self._indices[i]
        with self._named(i):
            return self._fetched(self._items[index], i)

    def _fetched(self, item, i):
        if isinstance(item, Unreadable):
            raise item.error(int(self._rows[i]))
        if not isinstance(item, str):
            return item
        with open(item, "rb") as file:
            return file.read()

    def _decoded(self, i, item):
        with self._named(i):
            return decode(
                item,
                self._range_of,
                image_shape=self._image_shape,
                upright=self._raw.upright,
            )

    @contextmanager
    def _named(self, i):
        """Name the sample in errors that are raised while it is read."""
        try:
            yield
        except (MemoryError, UnreadableSampleError):
            raise
        except Exception as error:
            raise self.unreadable(i, error) from error

    def _range_of(self, values):
        """Return the value range of one sample; that of its dtype has to fit all."""
        if self._is_given:
            return self.value_range
        return range_beside(values.dtype, self.value_range)

    def _identify(self, item, image):
        if isinstance(item, bytes):
            return self._of(item)
        return digest(b"RGB %d x %d:" % image.size + image.tobytes())

    def _of(self, data):
        return content_of(data, self._raw.upright).identify(self.value_range)

    def _first_reading(self, i):
        """Return the digest and the label of an item of a dataset, read once."""
        index, readings = int(self._indices[i]), self._items.first_readings
        if index not in readings:
            with self._named(i):
                item, label = self._items.pair(index)
                item = self._fetched(item, i)
            readings[index] = self._identify(item, self._decoded(i, item)), label
        return readings[index]


def _is_mapped(values):
    """Return whether an array lies in a file, which others may write to (bool)."""
    while isinstance(values, np.ndarray):
        values = values.base
    return isinstance(values, mmap)


def _name_of(items, index):
    if isinstance(items, np.ndarray):
        return None
    if isinstance(items, DatasetItems):
        return items.name(index)
    if isinstance(items[index], Unreadable):
        return items[index].name
    if isinstance(items[index], Image.Image):
        return getattr(items[index], "filename", None)
    return items[index] if isinstance(items[index], str) else None


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
    """Return the RGB image of a sample that is in memory (PIL.Image.Image).

    `range_of` returns the value range (low, high) of an array, or of the visible values
    of an image of more than 8 bits. The others are as of `open_image`, where `upright`
    is True.
    """
    if isinstance(source, (np.ndarray, torch.Tensor)):
        array = to_numpy(source) if isinstance(source, torch.Tensor) else source
        return array_to_image(array, image_shape, range_of(array))
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    if isinstance(source, (bytes, Image.Image)):
        return picture_to_rgb(source, range_of, upright)
    raise TypeError(
        "An image must be a path, the bytes of an image file, a PIL image, an array "
        f"or a tensor. Got {source!r} ({type(source).__name__})."
    )
