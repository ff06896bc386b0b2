"""Map-style datasets of PyTorch and torchvision as sequences of raw images."""

import threading

import numpy as np
import torch
import torchvision
from PIL import Image
from torch.utils.data import IterableDataset, Subset, TensorDataset
from torchvision.datasets import DatasetFolder
from torchvision.datasets.folder import default_loader

from sktransfer.inputs._arrays import to_numpy
from sktransfer.inputs._unreadable import Unreadable, explain

# Datasets are written for one thread per process: `FakeData`, for one, sets the
# global seed in each read.
_LOCK = threading.Lock()


class DatasetItems:
    """The images of a dataset, read one at a time and only when asked for.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        Map-style, with items ``image`` or ``(image, label)``.
    """

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        """Return the number of items."""
        return len(self.dataset)

    def __getitem__(self, index):
        """Return the image of one item, with tensors as arrays; or Unreadable."""
        image, _ = self.pair(index)
        if isinstance(image, (torch.Tensor, np.ndarray)):
            return to_numpy(image)
        if isinstance(image, (str, bytes, Image.Image, Unreadable)):
            return image
        raise TypeError(
            "The items of a dataset must be an image or a pair (image, label). Got "
            f"{type(image).__name__} as the image of item {index}."
        )

    def pair(self, index):
        """Return (image, label) of one item; a missing label is None.

        Where the dataset fails to give the item, Unreadable stands for the image.
        """
        try:
            with _LOCK:
                item = self.dataset[int(index)]
        except MemoryError:
            raise
        except Exception as error:
            return Unreadable(explain(error), self.name(index), error), None
        if not isinstance(item, (tuple, list)):
            return item, None
        if len(item) != 2:
            raise TypeError(
                "The items of a dataset must be an image or a pair (image, label). "
                f"Got {len(item)} values in item {index}."
            )
        return item

    def name(self, index):
        """Return the path of an item where the dataset tells it, else None."""
        samples = getattr(self.dataset, "samples", None)
        if not isinstance(samples, list) or len(samples) != len(self.dataset):
            return None
        path = samples[index][0]
        return path if isinstance(path, str) else None

    def labels(self, indices):
        """Return the labels of some items, from ``targets`` where there are some.

        Parameters
        ----------
        indices : ndarray of int of shape (n,)
            The items.

        Returns
        -------
        labels : ndarray of shape (n, ...) or None
            None where the items have no label.
        """
        targets = getattr(self.dataset, "targets", None)
        if targets is None or len(targets) != len(self.dataset):
            return self._read_labels(indices)
        transform = getattr(self.dataset, "target_transform", None)
        if transform is None:
            return stack_labels(targets)[indices]
        return stack_labels([transform(targets[index]) for index in indices])

    def _read_labels(self, indices):
        """Return the labels of items that have to be read for them."""
        labels = []
        for row, index in enumerate(indices):
            image, label = self.pair(index)
            if isinstance(image, Unreadable):
                raise image.error(row)
            if label is None:
                return None
            labels.append(label)
        return stack_labels(labels)


def stack_labels(labels):
    """Return labels, tensors among them or not, as one array."""
    if isinstance(labels, torch.Tensor):
        return to_numpy(labels)
    return np.array([to_numpy(v) if isinstance(v, torch.Tensor) else v for v in labels])


def read_dataset(dataset):
    """Return the samples of a dataset, in the cheapest form that it has.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        Map-style. A ``Subset`` is looked into, a ``TensorDataset`` gives its
        tensor, an ``ImageFolder`` without transforms gives its paths.

    Returns
    -------
    items : ndarray, list of str or DatasetItems
        The raw samples.
    indices : ndarray of int of shape (n,) or None
        The items that belong to the dataset, in order; None for all.
    labels : callable
        From an array of indices of items to the array of their labels, or None.

    Raises
    ------
    TypeError
        If the dataset has no length or its items are no (image, label).
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise TypeError(
            f"A dataset must have a length. Got {type(dataset).__name__}; pass a "
            "map-style dataset, or a list of its images."
        )
    if type(dataset) is Subset:
        items, indices, labels = read_dataset(dataset.dataset)
        chosen = np.asarray(dataset.indices, dtype=np.intp)
        return items, chosen if indices is None else indices[chosen], labels
    if type(dataset) is TensorDataset:
        return _read_tensors(dataset.tensors)
    items = DatasetItems(dataset)
    if not isinstance(dataset, DatasetFolder):
        return items, None, items.labels
    if _is_plain(dataset):
        items = [path for path, _ in dataset.samples]
    if dataset.target_transform is not None:
        return items, None, DatasetItems(dataset).labels
    names, targets = np.array(dataset.classes), np.array(dataset.targets)
    return items, None, lambda indices: names[targets[indices]]


def _read_tensors(tensors):
    if len(tensors) > 2:
        raise TypeError(
            "A `TensorDataset` must hold images, or images and labels. "
            f"Got {len(tensors)} tensors."
        )
    labels = to_numpy(tensors[1]) if len(tensors) == 2 else None
    images = to_numpy(tensors[0])
    return images, None, lambda indices: None if labels is None else labels[indices]


def _is_plain(folder):
    """Whether a folder dataset just opens its files with Pillow."""
    return (
        folder.transform is None
        and folder.loader is default_loader
        and torchvision.get_image_backend() == "PIL"
        and type(folder).__getitem__ is DatasetFolder.__getitem__
    )
