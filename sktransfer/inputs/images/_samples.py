"""Samples of images, each read and decoded when it is indexed."""

import copy
import io
import os
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from PIL import Image

from sktransfer.inputs._changes import tell_change
from sktransfer.inputs._modality import UnreadableSampleError
from sktransfer.inputs._reading import is_mapped, to_numpy
from sktransfer.inputs.images._datasets import (
    DatasetItems,
    Unreadable,
    check_class_names,
    explain,
    stack_labels,
    unreadable_image,
)
from sktransfer.inputs.images._files import content_of, file_content, picture_to_rgb
from sktransfer.inputs.images._items import Values, name_of
from sktransfer.inputs.images._pixels import (
    array_to_image,
    check_value_range,
    range_beside,
    resolve_value_range,
)
from sktransfer.inputs.images._stored import StoredImage
from sktransfer.utils import digest, warn_caller


class Samples:
    """Samples of images, each read when it is indexed.

    `as_samples` makes them. They refer to the raw samples, so a part of them is cheap.
    `image_shape` is the shape of one array. `value_range` (low, high) holds the values
    that stand for black and full intensity, None if no sample has values of its own;
    `is_given` says that the user chose it, so that it applies to any dtype.

    ``digests``, a list of bytes or None, identifies the samples once it is set. `take`
    selects from it, and `iter_batches` warns if a sample has another digest when it is
    read.
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
        self._warned_of = []  # shared by all parts, as a fit warns once
        self._least_side = None
        self.digests = None

    def __len__(self):
        """Return the number of samples."""
        return len(self._indices)

    def __getitem__(self, i):
        """Return sample `i` as a PIL image in mode RGB.

        If it cannot be read, the UnreadableSampleError names its position in X and its
        path.
        """
        return self._decoded(i, self._in_memory(i))

    def read(self, i: int) -> tuple[bytes, Image.Image]:
        """Read sample `i` once; return its digest and its image in mode RGB."""
        item = self._in_memory(i)
        image = self._decoded(i, item)
        return self._identify(item, image), image

    def digest(self, i: int) -> bytes:
        """Return a hash that identifies sample `i`.

        It is the hash of a file or an encoded image, and of the 8-bit RGB pixels of an
        array, a PIL image or an item of a dataset. Files that have not changed, and
        items that were read for their label, are not read again.
        """
        if isinstance(self._items, DatasetItems):
            return self._first_reading(i)[0]
        item = self._items[self._indices[i]]
        if isinstance(item, bytes):
            return self._of(item)
        if not isinstance(item, (str, StoredImage)):
            return self.read(i)[0]
        with self._named(i):
            if isinstance(item, StoredImage):
                content = item.content(self._raw.upright)
            else:
                content = file_content(item, self._raw.upright)
            return content.identify(self.value_range)

    def can_change(self, i: int) -> bool:
        """Return whether another reading of sample `i` may give another image."""
        if isinstance(self._items, np.ndarray):
            return is_mapped(self._items)
        if isinstance(self._items, DatasetItems):
            return True
        item = self._items[self._indices[i]]
        return isinstance(item, (str, StoredImage)) or is_mapped(item)

    def warn_of_change(self, i: int) -> None:
        """Warn, once for all parts of X, that sample `i` is not as it was before."""
        if self._warned_of:
            return
        self._warned_of.append(i)
        where = self.describe(i)
        if not isinstance(self._items, DatasetItems):
            tell_change(where)
            return
        warn_caller(
            f"The dataset returns {where} differently each time, as random transforms "
            "do. Activations of such samples are not stored, and `random_state` does "
            "not fix them. Leave random transforms out of the dataset, and pass them "
            "as `augment=`."
        )

    @property
    def labels(self) -> np.ndarray | None:
        """Labels (n_samples,) that came with X, or None.

        All items of a dataset are read for their labels, unless its type is known to
        hold them as a list. If parts of a dataset use one label for different classes,
        it raises a ValueError.
        """
        if self._raw.labels is not None:
            return self._raw.labels(self._indices)
        if not isinstance(self._items, DatasetItems):
            return None
        check_class_names(self._items.dataset)
        labels = []
        for i in range(len(self)):
            _, label = self._first_reading(i)
            if label is None:
                return None
            labels.append(label)
        return stack_labels(labels)

    def take(self, indices: Any) -> Self:
        """Return some of the samples, without reading them, by their indices or a mask.

        `describe` still names their positions in X.
        """
        indices = np.arange(len(self))[indices]
        taken = copy.copy(self)
        taken._indices = self._indices[indices]
        taken._rows = self._rows[indices]
        if self.digests is not None:
            taken.digests = [self.digests[i] for i in indices]
        return taken

    def reduced(self, least_side: int | None) -> Self:
        """Return the same samples, with large JPEG files decoded at reduced size.

        No side is then below `least_side`, in px; None decodes in full.
        """
        if least_side == self._least_side:
            return self
        reduced = copy.copy(self)
        reduced._least_side = least_side
        return reduced

    def describe(self, i: int) -> str:
        """Return the words for sample `i` in messages, as "sample 3 ('a/b.png')"."""
        return unreadable_image(self._rows[i], self.name(i), "").where

    def name(self, i: int) -> str | None:
        """Return the path of sample `i`; None if it has none or it is not known."""
        return _name_of(self._items, self._indices[i])

    def unreadable(self, i: int, error: Exception) -> UnreadableSampleError:
        """Return the error that says why sample `i` cannot be read."""
        return unreadable_image(int(self._rows[i]), self.name(i), explain(error))

    def encoded(self, i: int) -> str | bytes | None:
        """Return the path or the bytes that sample `i` is decoded from, else None."""
        item = self._items[self._indices[i]]
        if isinstance(item, StoredImage):
            return item.read()
        return item if isinstance(item, (str, bytes)) else None

    def _in_memory(self, i):
        """Return the raw sample, or the bytes of its file."""
        index = self._indices[i]
        with self._named(i):
            return self._fetched(self._items[index], i)

    def _fetched(self, item, i):
        if isinstance(item, Unreadable):
            raise item.error(int(self._rows[i]))
        if isinstance(item, StoredImage):
            return item.read()
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
                least_side=self._least_side,
            )

    @contextmanager
    def _named(self, i):
        """Name the sample in the errors that are raised while it is read."""
        try:
            yield
        except (MemoryError, UnreadableSampleError):
            raise
        except Exception as error:
            raise self.unreadable(i, error) from error

    def _range_of(self, values):
        """Return the range of one sample; that of its dtype must agree with X."""
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


def _name_of(items, index):
    if isinstance(items, np.ndarray):
        return None
    if isinstance(items, DatasetItems):
        return items.name(index)
    return name_of(items[index])


def open_image(
    source: Any,
    *,
    image_shape: tuple[int, ...] | None = None,
    value_range: Any = "auto",
) -> Image.Image:
    """Return the RGB image of a path, an encoded or PIL image, or an array.

    `image_shape` and `value_range` are those of `as_samples`. The first frame of an
    animation is taken. The EXIF orientation is applied to files, and to PIL images that
    are still the opened file; transparency is laid over white. Another type raises a
    TypeError; values, shapes or sizes that no image has a ValueError; and a file that
    is missing, truncated or no image an OSError.
    """
    given = check_value_range(value_range)
    if isinstance(source, io.BytesIO):
        source = source.getvalue()
    elif isinstance(source, os.PathLike):
        source = os.fspath(source)
    elif isinstance(source, StoredImage):
        source = source.read()
    if isinstance(source, str):
        with open(source, "rb") as file:
            source = file.read()

    def range_of(values):
        return given or resolve_value_range(Values([values]))

    return decode(source, range_of, image_shape=image_shape)


def decode(
    source: Any,
    range_of: Callable,
    *,
    image_shape: tuple[int, ...] | None = None,
    upright: bool = True,
    least_side: int | None = None,
) -> Image.Image:
    """Return the image in mode RGB of a raw sample that is in memory.

    `range_of` maps an array, or the visible values of an image of more than 8 bits, to
    their value range (low, high). `upright` says whether the EXIF orientation of
    encoded images is applied, and `least_side` lets large JPEG files be decoded at a
    part of their size, with no side below it.
    """
    if isinstance(source, (np.ndarray, torch.Tensor)):
        array = to_numpy(source) if isinstance(source, torch.Tensor) else source
        return array_to_image(array, image_shape, range_of(array))
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    if isinstance(source, (bytes, Image.Image)):
        return picture_to_rgb(source, range_of, upright, least_side)
    raise TypeError(
        "An image must be a path, the bytes of an image file, a PIL image, an array "
        f"or a tensor. Got {source!r} ({type(source).__name__})."
    )
