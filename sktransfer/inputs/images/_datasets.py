"""Map-style datasets of PyTorch and torchvision as sequences of raw images."""

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, IterableDataset, Subset, TensorDataset

from sktransfer.inputs._modality import UnreadableSampleError
from sktransfer.inputs._reading import to_numpy

# Datasets are written for one thread per process. `FakeData`, for example, sets the
# global seed whenever it is read.
_LOCK = threading.Lock()
# torchvision is imported where it is used, as it takes longer than all else together.
_FOLDERS = ("DatasetFolder", "ImageFolder")
# The label of item i is `targets[i]`.
_WITH_TARGETS = (
    *("MNIST", "EMNIST", "FashionMNIST", "KMNIST", "USPS"),
    *("CIFAR10", "CIFAR100"),
)


@functools.cache
def _readers(names):
    """Return the `__getitem__` of classes of torchvision's datasets, by class.

    Only these types are known to return what they hold; a subclass may change it.
    """
    from torchvision import datasets

    kinds = [getattr(datasets, name) for name in names]
    return {kind: kind.__getitem__ for kind in kinds}


@dataclass(frozen=True)
class Unreadable:
    """Placeholder among the items of X for an image that cannot be read.

    It holds the reason and a remedy, the path if there is one, and the exception.
    """

    reason: str
    name: str | None = None
    cause: Exception | None = None

    def error(self, row: int) -> UnreadableSampleError:
        """Return the error that names the image at a row."""
        error = unreadable_image(row, self.name, self.reason)
        error.__cause__ = self.cause
        return error


def unreadable_image(row: int, name: str | None, reason: str) -> UnreadableSampleError:
    """Return the error of an image that cannot be read; `name` is its path."""
    return UnreadableSampleError(row, name, reason, "images")


def explain(error: Exception) -> str:
    """Return the text of an exception, with its type if the text says too little."""
    text = str(error)
    if text and isinstance(error, OSError | ValueError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@dataclass(frozen=True)
class Raw:
    """The raw samples of X."""

    items: Any  # ndarray of shape (n, ...), list or DatasetItems
    indices: np.ndarray | None = None  # the items that are samples; None for all
    # From indices of items to an array of labels. Without it, only `DatasetItems` have
    # labels, those of the items.
    labels: Callable | None = None
    upright: bool = True  # whether the EXIF orientation of files is applied


class DatasetItems:
    """Images of a map-style dataset, each read only when it is indexed.

    ``first_readings`` holds (digest, label) by the index of each item that was read for
    its label.
    """

    def __init__(self, dataset):
        self.dataset = dataset
        self.first_readings = {}

    def __len__(self):
        """Return the number of items."""
        return len(self.dataset)

    def __getitem__(self, index):
        """Return the image of one item, a tensor as an array; or Unreadable."""
        return self.pair(index)[0]

    def pair(self, index: int) -> tuple[Any, Any]:
        """Return (image, label) of one item; a missing label is None.

        Where the dataset fails to return the item, the image is Unreadable.
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

    def name(self, index: int) -> str | None:
        """Return the path of an item if the dataset lists it, else None."""
        samples = getattr(self.dataset, "samples", None)
        if not isinstance(samples, list) or len(samples) != len(self.dataset):
            return None
        path = samples[index][0]
        return path if isinstance(path, str) else None


def _copied(item):
    """Copy an array, alone or with a label: the dataset may write to it again."""
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return _copied(item[0]), item[1]
    if isinstance(item, np.ndarray):
        return item.copy()
    return item.detach().clone() if isinstance(item, torch.Tensor) else item


def stack_labels(labels: Any) -> np.ndarray:
    """Return labels, tensors or not, as one array."""
    if isinstance(labels, torch.Tensor):
        return to_numpy(labels)
    return np.array([to_numpy(v) if isinstance(v, torch.Tensor) else v for v in labels])


def read_dataset(dataset: Any) -> Raw:
    """Return the samples of a map-style dataset in their cheapest form.

    The dataset of a ``Subset`` is read instead, a ``TensorDataset`` gives its tensor,
    and an ``ImageFolder`` without transforms, or a ``ConcatDataset`` of such, gives its
    paths.
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


def _is_one_of(dataset, names):
    kind = type(dataset)
    reader = _readers(names).get(kind)
    return reader is not None and kind.__getitem__ is reader


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
    """Return the paths of a folder if it merely opens its files with Pillow."""
    import torchvision
    from torchvision.datasets.folder import default_loader

    labels = _labels_of([label for _, label in folder.samples], folder.target_transform)
    is_plain = (
        folder.transform is None
        and folder.loader is default_loader
        and torchvision.get_image_backend() == "PIL"
    )
    if not is_plain:
        return Raw(DatasetItems(folder), labels=labels)
    # The loader of torchvision does not apply the EXIF orientation.
    return Raw([path for path, _ in folder.samples], labels=labels, upright=False)


def _labels_of(targets, transform):
    if transform is None:
        return lambda indices: stack_labels(targets)[indices]
    return lambda indices: stack_labels([transform(int(targets[i])) for i in indices])


def _read_parts(dataset):
    """Join the paths of several folders; read the items of any other parts."""
    parts = [read_dataset(part) for part in dataset.datasets]
    if not all(isinstance(part.items, list) for part in parts):
        return Raw(DatasetItems(dataset))
    chosen = [
        np.arange(len(part.items)) if part.indices is None else part.indices
        for part in parts
    ]

    def labels(indices):
        check_class_names(dataset)
        of_parts = [p.labels(rows) for p, rows in zip(parts, chosen, strict=True)]
        return np.concatenate(of_parts)[indices]

    items = [p.items[i] for p, rows in zip(parts, chosen, strict=True) for i in rows]
    return Raw(items, labels=labels, upright=False)


def check_class_names(dataset: Any) -> None:
    """Raise a ValueError if one label stands for different classes in parts."""
    if not isinstance(dataset, ConcatDataset):
        return
    names: dict[int, str] = {}
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
    """Yield the datasets inside that number their classes by name."""
    if isinstance(dataset, ConcatDataset):
        for part in dataset.datasets:
            yield from _parts_with_classes(part)
    elif isinstance(dataset, Subset):
        yield from _parts_with_classes(dataset.dataset)
    elif isinstance(dataset, (*_readers(_FOLDERS), *_readers(_WITH_TARGETS))):
        if dataset.target_transform is None:
            yield dataset
