"""Samples of any kind behind one indexable, lazy interface."""

import numpy as np
from PIL import Image

from sktransfer.inputs._arrays import check_image_shape
from sktransfer.inputs._containers import collect
from sktransfer.inputs._datasets import DatasetItems
from sktransfer.inputs._decode import open_image
from sktransfer.inputs._unreadable import Unreadable, UnreadableSampleError, explain
from sktransfer.inputs._value_range import resolve_value_range
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
        The values in arrays that stand for black and for full intensity. "auto"
        and None decide over all of X: by the dtype for uint8, uint16 and bool,
        else by the values. bool is black and white whatever the range.
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
    items, indices, labels = collect(X, image_shape, on_error)
    value_range = resolve_value_range(items, value_range, indices, on_error)
    return Samples(
        items,
        indices,
        image_shape=image_shape,
        value_range=value_range,
        read_labels=labels,
    )


class Samples:
    """Image samples, read one at a time.

    Made by `as_samples`. Holds references to the raw samples, so it is cheap to
    take parts of.

    Parameters
    ----------
    items : ndarray, list or DatasetItems
        The raw samples.
    indices : ndarray of int of shape (n_samples,) or None, default=None
        Which of the items, in order; None for all.
    image_shape : tuple of int or None, default=None
        Shape of an array sample.
    value_range : tuple of float (low, high) or None, default=None
        The values in arrays that stand for black and full intensity.
    read_labels : callable or None, default=None
        From an array of indices of items to their labels.
    rows : ndarray of int of shape (n_samples,) or None, default=None
        The position of each sample in X, for messages; None for 0, 1, 2, …

    Attributes
    ----------
    value_range : tuple of float (low, high) or None
        None where no sample is an array.
    digests : list of bytes or None
        Hashes of the contents, for who has computed them; `take` takes them along.
    """

    def __init__(
        self,
        items,
        indices=None,
        *,
        image_shape=None,
        value_range=None,
        read_labels=None,
        rows=None,
    ):
        self._items = items
        self._indices = np.arange(len(items)) if indices is None else indices
        self._image_shape = image_shape
        self.value_range = value_range
        self._read_labels = read_labels
        self._rows = np.arange(len(self._indices)) if rows is None else rows
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
        index = self._indices[i]
        try:
            item = self._items[index]
            if isinstance(item, Unreadable):
                raise item.error(int(self._rows[i]))
            return open_image(
                item, image_shape=self._image_shape, value_range=self.value_range
            )
        except (MemoryError, UnreadableSampleError):
            raise
        except Exception as error:
            raise self.unreadable(i, error) from error

    @property
    def labels(self):
        """Labels that came with a dataset, an ndarray of shape (n_samples,), or None.

        Where the dataset has no ``targets``, all of its items are read.
        """
        return None if self._read_labels is None else self._read_labels(self._indices)

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
        taken = Samples(
            self._items,
            self._indices[indices],
            image_shape=self._image_shape,
            value_range=self.value_range,
            read_labels=self._read_labels,
            rows=self._rows[indices],
        )
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

    def content(self, i):
        """Return what identifies sample `i`, for a hash.

        Parameters
        ----------
        i : int
            Position of the sample.

        Returns
        -------
        content : str or bytes
            A str is the path of a file, whose bytes identify the sample. Bytes are
            either those of the encoded image or, for arrays, PIL images and other
            datasets, a header with the size and then the 8-bit RGB pixels: the
            value range, the layout and the mode are applied already.
        """
        item = self._items[self._indices[i]]
        if isinstance(item, (str, bytes)):
            return item
        image = self[i]
        return b"RGB %d x %d:" % image.size + image.tobytes()


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
