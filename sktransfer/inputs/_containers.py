"""What X may be: arrays, lists, data frames and datasets as indexable items."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from sktransfer.inputs._arrays import channels_last, to_numpy
from sktransfer.inputs._datasets import DatasetItems, read_dataset, stack_labels

KINDS = (
    "a list of paths, of PIL images, of arrays or of encoded images, an array or "
    "tensor, a column of a data frame, or a map-style dataset"
)

# What is a whole image by itself, so that a pair with it is (image, label).
WHOLE = (str, bytes, Image.Image, np.ndarray, torch.Tensor)


def collect(X, image_shape=None):
    """Return the raw samples of X by index, each one checked as far as is cheap.

    Parameters
    ----------
    X : array-like, sequence, data frame or torch.utils.data.Dataset
        The samples.
    image_shape : tuple of int or None, default=None
        Shape of an array sample.

    Returns
    -------
    items : ndarray of shape (n, ...), list or DatasetItems
        A list holds str (paths), bytes (encoded images), PIL images and arrays.
    indices : ndarray of int of shape (n_samples,) or None
        The items that are samples, in order; None for all.
    labels : callable or None
        From an array of indices of items to the array of their labels, or None.

    Raises
    ------
    TypeError
        If X or a sample is of no kind that can be read.
    ValueError
        If X is empty, a file is missing, or a shape is not that of an image.
    """
    indices = labels = None
    if isinstance(X, Dataset):
        items, indices, labels = read_dataset(X)
    elif _is_labelled(X):
        items, labels = _as_items([image for image, _ in X]), _labels_of(X)
    else:
        items = _as_items(X)
    n_samples = len(items if indices is None else indices)
    if n_samples == 0:
        raise ValueError("X must have at least 1 sample. Got 0.")
    if isinstance(items, np.ndarray):
        _check_images(items, image_shape)
    elif not isinstance(items, DatasetItems):
        rows = range(n_samples) if indices is None else indices
        for row, index in enumerate(rows):
            _check_item(items[index], row, image_shape)
    return items, indices, labels


def _is_labelled(X):
    """Whether X is what indexing a dataset gives: a list of pairs (image, label)."""
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
    if isinstance(X, (str, bytes, os.PathLike, Image.Image)):
        raise TypeError(
            f"X must be a collection of samples: {KINDS}. Got one "
            f"{type(X).__name__}; pass a list, `[X]`, or for a folder "
            "`torchvision.datasets.ImageFolder(X)`."
        )
    if hasattr(X, "tocsr"):
        raise TypeError(
            f"X must be dense. Got a sparse {type(X).__name__}; pass `X.toarray()`."
        )
    if isinstance(X, Sequence):
        return [_as_item(item, row) for row, item in enumerate(X)]
    if not hasattr(X, "__len__") or isinstance(X, (dict, set, frozenset)):
        raise TypeError(
            f"X must be a collection with a length and an order: {KINDS}. Got "
            f"{type(X).__name__}; pass `list(X)` of its samples."
        )
    array = to_numpy(X)
    if array.dtype.kind not in "OSUT":
        return array
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 1:
        return [_as_item(item, row) for row, item in enumerate(array)]
    return _as_numbers(array)


def _as_numbers(array):
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            "X must be one column of images, or all numbers. Got "
            f"{type(array.flat[0]).__name__} in an array of shape {array.shape}; "
            "select the column that holds the images, as in `X[['path']]`."
        ) from error


def _as_item(item, row):
    """Return one sample as str, bytes, PIL image or ndarray."""
    if isinstance(item, (Image.Image, bytes)):
        return item
    if isinstance(item, (str, os.PathLike)):
        return str(os.fspath(item))  # not numpy's str, for its repr
    if isinstance(item, (bytearray, memoryview)):
        return bytes(item)
    if isinstance(item, (np.ndarray, torch.Tensor)):
        return to_numpy(item)
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], WHOLE):
        raise TypeError(
            f"X must hold images, or pairs (image, label) throughout. Got a pair as "
            f"sample {row}; pass the images as X and the labels as y."
        )
    if isinstance(item, (list, tuple)):
        return _nested(item, row)
    if _is_missing(item):
        raise ValueError(
            f"X must have no missing values. Got {item!r} as sample {row}; drop the "
            "sample or fill in its path."
        )
    raise TypeError(
        "A sample must be a path, a PIL image, an array, a tensor or the bytes of an "
        f"image file. Got {item!r} ({type(item).__name__}) as sample {row}."
    )


def _nested(item, row):
    try:
        return np.asarray(item)
    except ValueError as error:
        raise ValueError(
            f"Nested lists must have rows of one length. Sample {row} has not."
        ) from error


def _is_missing(item):
    if isinstance(item, float):
        return item != item
    return item is None or type(item).__name__ in ("NAType", "NaTType")


def _check_images(images, image_shape):
    shape = images.shape
    if not 2 <= images.ndim <= 4:
        raise ValueError(
            "An array of images must have 2 (flat rows), 3 (gray) or 4 (colour) "
            f"dimensions. Got {images.ndim}, shape {shape}."
        )
    if images.ndim == 3 and image_shape is None:
        if shape[2] in (3, 4) and min(shape[:2]) > 4:
            raise ValueError(
                f"X looks like one colour image. Got shape {shape}; pass `X[None]`, "
                f"or `image_shape={shape[1:]}` if it is {shape[0]} gray images."
            )
    channels_last(images[0], image_shape)


def _check_item(item, row, image_shape):
    if isinstance(item, np.ndarray):
        try:
            channels_last(item, image_shape)
        except ValueError as error:
            raise ValueError(f"Sample {row}: {error}") from error
    if not isinstance(item, str) or os.path.isfile(item):
        return
    if os.path.isdir(item):
        raise ValueError(
            f"Paths must be image files. Sample {row} ({item!r}) is a directory; pass "
            "the files in it, or `torchvision.datasets.ImageFolder` of its parent."
        )
    raise ValueError(
        f"Paths must be image files. Sample {row} ({item!r}) does not exist; check "
        f"the path, which is relative to {os.getcwd()!r} unless it is absolute."
    )
