"""Map-style datasets of PyTorch and torchvision as sequences of raw images."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch.utils.data import ConcatDataset, IterableDataset, Subset, TensorDataset
from torchvision import datasets
from torchvision.datasets.folder import default_loader

from sktransfer.inputs._modality import Unreadable, explain
from sktransfer.inputs._reading import to_numpy

__all__ = ["DatasetItems", "Raw", "read_dataset", "stack_labels"]

# Datasets are written for one thread per process: `FakeData`, for one, sets the
# global seed in each read.
_LOCK = threading.Lock()
_FOLDERS = (datasets.DatasetFolder, datasets.ImageFolder)
# The label of item i is `targets[i]`, whatever the image is.
_WITH_TARGETS = (
    datasets.MNIST,
    datasets.EMNIST,
    datasets.FashionMNIST,
    datasets.KMNIST,
    datasets.USPS,
    datasets.CIFAR10,
    datasets.CIFAR100,
)
# These types alone are known to give what they hold; a subclass may do anything.
_READERS = {kind: kind.__getitem__ for kind in (*_FOLDERS, *_WITH_TARGETS)}


@dataclass(frozen=True)
class Raw:
    """The samples of X as they are found.

    Attributes
    ----------
    items : ndarray of shape (n, ...), list or DatasetItems
        The raw samples.
    indices : ndarray of int of shape (n_samples,) or None
        The items that are samples, in order; None for all.
    labels : callable or None
        From an array of indices of items to the array of their labels, or None. Where
        it is None, `DatasetItems` have the labels of the items, others have none.
    upright : bool
        Whether the orientation that files say is applied.
    """

    items: Any
    indices: np.ndarray | None = None
    labels: Callable | None = None
    upright: bool = True


class DatasetItems:
    """The images of a dataset, read one at a time and only when asked for.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        Map-style, with items ``image`` or ``(image, label)``.

    Attributes
    ----------
    first_readings : dict of int to tuple (digest, label)
        By the index of an item that was read for its label.
    """

    def __init__(self, dataset):
        self.dataset = dataset
        self.first_readings = {}

    def __len__(self):
        """Return the number of items."""
        return len(self.dataset)

    def __getitem__(self, index):
        """Return the image of one item, with tensors as arrays; or Unreadable."""
        return self.pair(index)[0]

    def pair(self, index):
        """Return (image, label) of one item; a missing label is None.

        Where the dataset fails to give the item, Unreadable stands for the image.
        """
        image, label = self._read(index)
        if isinstance(image, (torch.Tensor, np.ndarray)):
            return to_numpy(image), label
        if isinstance(image, (str, bytes, Image.Image, Unreadable)):
            return image, label
        raise TypeError(
            "The items of a dataset must be an image or a pair (image, label). Got "
            f"{type(image).__name__} as the image of item {index}."
        )

    def _read(self, index):
        try:
            with _LOCK:
                item = _copied(self.dataset[int(index)])
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
        """Return the path of an item if the dataset lists it, else None."""
        samples = getattr(self.dataset, "samples", None)
        if not isinstance(samples, list) or len(samples) != len(self.dataset):
            return None
        path = samples[index][0]
        return path if isinstance(path, str) else None

    def check_labels(self):
        """Raise if labels do not mean the same in all parts."""
        _check_class_names(self.dataset)


def _copied(item):
    """Copy an array, alone or with a label: the dataset may fill it again."""
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return _copied(item[0]), item[1]
    if isinstance(item, np.ndarray):
        return item.copy()
    return item.detach().clone() if isinstance(item, torch.Tensor) else item


def stack_labels(labels):
    """Return labels, tensors among them or not, as one array."""
    if isinstance(labels, torch.Tensor):
        return to_numpy(labels)
    return np.array([to_numpy(v) if isinstance(v, torch.Tensor) else v for v in labels])


def read_dataset(dataset):
    """Return the samples of a map-style dataset in its cheapest form (Raw).

    A ``Subset`` is looked into, a ``TensorDataset`` gives its tensor, and an
    ``ImageFolder`` without transforms, or a ``ConcatDataset`` of such, gives its paths.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise TypeError(
            f"A dataset must have a length. Got {type(dataset).__name__}; pass a "
            "map-style dataset, or a list of its images."
        )
    if type(dataset) is Subset:
        raw = read_dataset(dataset.dataset)
        chosen = np.asarray(dataset.indices, dtype=np.intp)
        indices = chosen if raw.indices is None else raw.indices[chosen]
        return Raw(raw.items, indices, raw.labels, raw.upright)
    if type(dataset) is TensorDataset:
        return _read_tensors(dataset.tensors)
    if type(dataset) is ConcatDataset:
        return _read_parts(dataset)
    if _is_one_of(dataset, _FOLDERS):
        return _read_folder(dataset)
    labels = None
    if _is_one_of(dataset, _WITH_TARGETS):
        labels = _labels_of(dataset.targets, dataset.target_transform)
    return Raw(DatasetItems(dataset), labels=labels)


def _is_one_of(dataset, kinds):
    kind = type(dataset)
    return kind in kinds and kind.__getitem__ is _READERS[kind]


def _read_tensors(tensors):
    if len(tensors) > 2:
        raise TypeError(
            "A `TensorDataset` must hold images, or images and labels. "
            f"Got {len(tensors)} tensors."
        )
    labels = to_numpy(tensors[1]) if len(tensors) == 2 else None
    images = to_numpy(tensors[0])
    return Raw(images, labels=None if labels is None else labels.__getitem__)


def _read_folder(folder):
    """Read a folder by its paths where it just opens its files with Pillow."""
    labels = _labels_of([label for _, label in folder.samples], folder.target_transform)
    is_plain = (
        folder.transform is None
        and folder.loader is default_loader
        and torchvision.get_image_backend() == "PIL"
    )
    if not is_plain:
        return Raw(DatasetItems(folder), labels=labels)
    # The loader of torchvision leaves images as they lie.
    return Raw([path for path, _ in folder.samples], labels=labels, upright=False)


def _labels_of(targets, transform):
    if transform is None:
        return lambda indices: stack_labels(targets)[indices]
    return lambda indices: stack_labels([transform(int(targets[i])) for i in indices])


def _read_parts(dataset):
    """Join the paths of several folders; read the items of anything else."""
    parts = [read_dataset(part) for part in dataset.datasets]
    if not all(isinstance(part.items, list) for part in parts):
        return Raw(DatasetItems(dataset))
    chosen = [
        np.arange(len(part.items)) if part.indices is None else part.indices
        for part in parts
    ]

    def labels(indices):
        _check_class_names(dataset)
        of_parts = [p.labels(rows) for p, rows in zip(parts, chosen, strict=True)]
        return np.concatenate(of_parts)[indices]

    items = [p.items[i] for p, rows in zip(parts, chosen, strict=True) for i in rows]
    return Raw(items, labels=labels, upright=False)


def _check_class_names(dataset):
    """Raise if parts of a dataset use one label for classes of several names."""
    if not isinstance(dataset, ConcatDataset):
        return
    names = {}
    for part in _parts_with_classes(dataset):
        for number, name in enumerate(getattr(part, "classes", ())):
            other = names.setdefault(number, name)
            if name != other:
                raise ValueError(
                    "The parts of a `ConcatDataset` must give each class a number of "
                    f"its own. Got the label {number} for both {other!r} and {name!r}; "
                    "pass y."
                )


def _parts_with_classes(dataset):
    """Yield the datasets below that number their classes by their names."""
    if isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            yield from _parts_with_classes(part)
    elif isinstance(dataset, Subset):
        yield from _parts_with_classes(dataset.dataset)
    elif isinstance(dataset, (*_FOLDERS, *_WITH_TARGETS)):
        if dataset.target_transform is None:
            yield dataset
