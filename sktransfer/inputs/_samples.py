"""Samples of any kind behind one indexable, lazy interface."""

import copy
import warnings
from contextlib import contextmanager

import numpy as np
from PIL import Image

from sktransfer.inputs._arrays import check_image_shape, is_mapped
from sktransfer.inputs._containers import collect
from sktransfer.inputs._datasets import DatasetItems, stack_labels
from sktransfer.inputs._decode import decode
from sktransfer.inputs._digest import content_of, digest_image, file_content
from sktransfer.inputs._unreadable import Unreadable, UnreadableSampleError, explain
from sktransfer.inputs._value_range import (
    check_value_range,
    range_of_dtype,
    resolve_value_range,
)
from sktransfer.inputs._values import Values
from sktransfer.inputs._vector import VectorSamples


def as_samples(
    X, preprocessing, *, image_shape=None, value_range="auto", on_error="raise"
):
    """Return X as samples that are read one by one, when they are asked for.

    Parameters
    ----------
    X : array-like, sequence, data frame or torch.utils.data.Dataset
        For images: file paths (str or os.PathLike), PIL images, encoded images
        (bytes) or arrays, in a list, in any mix, in an array, a Series or a
        one-column data frame; an array or tensor of shape (n, h, w),
        (n, h, w, c), (n, c, h, w) or, with `image_shape`, (n, d); or a map-style
        dataset with items ``image`` or ``(image, label)``. For vectors: numbers
        of shape (n, d).
    preprocessing : ImagePreprocessing or VectorPreprocessing
        Says by its ``kind`` what a sample is.
    image_shape : tuple of int or None, default=None
        Shape of one array sample, in px: (h, w), (h, w, c) or (c, h, w). Flat
        rows need it. Where both ends can be the channels, the last one is.
    value_range : "auto", None or tuple of float (low, high), default="auto"
        The values that stand for black and for full intensity in arrays, and in files
        and PIL images of one channel with more than 8 bits. "auto" and None decide over
        all of X: by the dtype for uint8, uint16 and bool, else by the values. bool is
        black and white whatever the range.
    on_error : {"raise", "warn"}, default="raise"
        What becomes of image samples that cannot be read: "raise" raises for those
        that can be told without reading them; with "warn" all of them raise when they
        are read. What is no sample at all, such as a number among paths, is an error
        in any case.

    Returns
    -------
    samples : Samples or VectorSamples
        With the range that was decided as ``value_range``.

    Raises
    ------
    TypeError
        If X or one of its samples is of no kind that can be read.
    ValueError
        If X is empty, a file or value is missing, or a shape or a value is not that of
        an image.
    """
    if isinstance(X, (Samples, VectorSamples)):
        return X
    if preprocessing.kind == "vector":
        return VectorSamples(X, preprocessing.n_features)
    image_shape = check_image_shape(image_shape)
    raw = collect(X, image_shape, on_error)
    values = Values(raw.items, raw.indices, on_error)
    is_given = check_value_range(value_range) is not None
    return Samples(
        raw,
        image_shape=image_shape,
        value_range=resolve_value_range(values, value_range),
        decided_by=None if is_given else values.dtypes,
    )


class Samples:
    """Image samples, read one at a time.

    Made by `as_samples`. Holds references to the raw samples, so it is cheap to
    take parts of.

    Parameters
    ----------
    raw : Raw
        The raw samples.
    image_shape : tuple of int or None, default=None
        Shape of an array sample.
    value_range : tuple of float (low, high) or None, default=None
        The values that stand for black and full intensity where samples have values of
        their own.
    decided_by : set of numpy.dtype or None, default=None
        Of the values that the range was decided by; None if it was given.

    Attributes
    ----------
    value_range : tuple of float (low, high) or None
        None where no sample was found to have values of its own.
    digests : list of bytes or None
        What identifies each sample, for who has computed it; `take` takes them along.
        `iter_batches` tells where a sample is no longer the one of its digest.
    """

    def __init__(self, raw, *, image_shape=None, value_range=None, decided_by=None):
        self._raw = raw
        self._items = raw.items
        n_items = len(raw.items)
        self._indices = np.arange(n_items) if raw.indices is None else raw.indices
        self._image_shape = image_shape
        self.value_range = value_range
        self._decided_by = decided_by
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
        """Read sample `i` once, for what identifies it and for its pixels.

        Parameters
        ----------
        i : int
            Position of the sample.

        Returns
        -------
        digest : bytes
            As of `digest`, but of what is read now.
        image : PIL.Image.Image
            In mode RGB.

        Raises
        ------
        UnreadableSampleError
            If it cannot be read.
        """
        item = self._in_memory(i)
        image = self._decoded(i, item)
        return self._identify(item, image), image

    def digest(self, i):
        """Return what identifies sample `i`.

        Parameters
        ----------
        i : int
            Position of the sample.

        Returns
        -------
        bytes
            A hash of the file or of the encoded image; for arrays, PIL images and
            datasets, of the 8-bit RGB pixels. What is known already is not read again:
            files that have not changed, and items of a dataset that were read for their
            label.

        Raises
        ------
        UnreadableSampleError
            If it cannot be read.
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
        """Say whether sample `i` may be another one when it is read again (bool)."""
        if isinstance(self._items, np.ndarray):
            return is_mapped(self._items)
        if isinstance(self._items, DatasetItems):
            return True
        item = self._items[self._indices[i]]
        return isinstance(item, str) or is_mapped(item)

    def tell_changed(self, i):
        """Warn, once for all parts of X, that sample `i` is not what it was before.

        Parameters
        ----------
        i : int
            Position of the sample.

        Warns
        -----
        UserWarning
        """
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

        Those of a dataset are those of its items. They are all read, unless it is of a
        type that is known to hold its labels as a list.

        Raises
        ------
        ValueError
            If the dataset joins others whose labels mean different classes.
        UnreadableSampleError
            If an item cannot be read.
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
        samples : Samples
            They keep their position in X for `describe`.
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
        return UnreadableSampleError(self._rows[i], self.name(i), "").where

    def name(self, i):
        """Return the path of sample `i`, None where it has none or does not tell."""
        return _name_of(self._items, self._indices[i])

    def unreadable(self, i, error):
        """Return the error that says why sample `i` cannot be read.

        Parameters
        ----------
        i : int
            Position of the sample.
        error : Exception
            What reading it raised.

        Returns
        -------
        error : UnreadableSampleError
        """
        return UnreadableSampleError(int(self._rows[i]), self.name(i), explain(error))

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
        """Name the sample in whatever goes wrong while it is read."""
        try:
            yield
        except (MemoryError, UnreadableSampleError):
            raise
        except Exception as error:
            raise self.unreadable(i, error) from error

    def _range_of(self, values):
        """Return the value range of one sample, the same for all."""
        if self._decided_by is None:
            return self.value_range
        return range_of_dtype(values.dtype, self._decided_by, self.value_range)

    def _identify(self, item, image):
        return self._of(item) if isinstance(item, bytes) else digest_image(image)

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
    if isinstance(items[index], Unreadable):
        return items[index].name
    if isinstance(items[index], Image.Image):
        return getattr(items[index], "filename", None)
    return items[index] if isinstance(items[index], str) else None
