"""The modality of images of any number of channels: how X is checked and read."""

from collections.abc import Callable
from dataclasses import dataclass
from reprlib import Repr
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from sktransfer.inputs._changes import tell_change
from sktransfer.inputs._modality import MODALITIES, Modality, UnreadableSampleError
from sktransfer.inputs._reading import is_mapped, to_numpy
from sktransfer.inputs.images._augment import preset_augmentation
from sktransfer.inputs.multichannel._preprocessing import (
    MultichannelPreprocessing,
    RawMultichannel,
)
from sktransfer.utils import digest

NOUN = "images of several channels"
_PRESETS = ("auto", "crop", "crop_flip", "light")  # that change no colours


class MultichannelSamples:
    """Images in arrays (h, w, c) or (c, h, w), with the interface of `Samples`.

    They are an array of four axes or a list of arrays; `indices` are those that are
    samples, in order. An image of one channel may have the shape (h, w). There are no
    labels and no value range.
    """

    labels = None
    value_range = None

    def __init__(self, items: Any, n_channels: int, indices: Any = None):
        self._items = items
        self._n_channels = n_channels
        self._indices = np.arange(len(items)) if indices is None else indices
        self._warned_of: list = []  # shared by all parts, as a fit warns once
        self.digests = None

    def __len__(self):
        """Return the number of samples."""
        return len(self._indices)

    def __getitem__(self, i):
        """Return image `i` in float32, of shape (h, w, c)."""
        image = np.asarray(self._items[self._indices[i]])
        if image.ndim == 2:
            image = image[:, :, None]
        elif image.shape[2] != self._n_channels:
            image = np.moveaxis(image, 0, 2)
        image = np.ascontiguousarray(image, dtype=np.float32)
        if not np.isfinite(image).all():
            raise UnreadableSampleError(
                int(self._indices[i]), None, "it holds NaN or infinity", NOUN
            )
        return image

    def take(self, indices: Any) -> Self:
        """Return some of the images, by their indices or a mask, without copying them.

        `describe` still names their positions in X.
        """
        indices = np.arange(len(self))[indices]
        taken = type(self)(self._items, self._n_channels, self._indices[indices])
        taken._warned_of = self._warned_of
        if self.digests is not None:
            taken.digests = [self.digests[i] for i in indices]
        return taken

    def can_change(self, i: int) -> bool:
        """Return whether image `i` is in a file, which others may write to."""
        return is_mapped(self._items[self._indices[i]])

    def warn_of_change(self, i: int) -> None:
        """Warn, once for all parts of X, that image `i` is not as it was before."""
        if not self._warned_of:
            self._warned_of.append(i)
            tell_change(self.describe(i))

    def describe(self, i: int) -> str:
        """Return the words for image `i` in messages, as "sample 3"."""
        return f"sample {self._indices[i]}"

    def name(self, i: int) -> None:
        """Return None, as arrays have no path."""
        return None

    def read(self, i: int) -> tuple[bytes, np.ndarray]:
        """Return the digest of image `i`, and the image."""
        image = self[i]
        h, w, c = image.shape
        return digest(b"channels %d %d %d:" % (h, w, c) + image.tobytes()), image

    def digest(self, i: int) -> bytes:
        """Return a hash of the shape and the values of image `i` in float32."""
        return self.read(i)[0]


class Multichannel(Modality):
    """The modality of images of any number of channels."""

    noun = NOUN
    options = ("image_size",)
    n_views = 1

    def set_tags(self, tags: Any, options: dict) -> None:
        """Say that X has more than two axes."""
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True

    def validate(self, estimator: Any, X: Any, *, reset: bool) -> Any:
        """Return X, as an array if it is a tensor."""
        return _plain(X)

    def validate_with_y(self, estimator: Any, X: Any, y: Any) -> tuple[Any, Any]:
        """Return X as `validate` does, and y, as an array if it is a tensor."""
        return _plain(X), _plain(y)

    def read(
        self,
        X: Any,
        preprocessing: MultichannelPreprocessing,
        *,
        on_error: str = "raise",
    ) -> MultichannelSamples:
        """Return X as samples; values are checked when an image is read."""
        if isinstance(X, MultichannelSamples):
            return X
        n_channels = preprocessing.n_channels
        items = _items_of(X, n_channels)
        _check_items(items, n_channels)
        return MultichannelSamples(items, n_channels)

    def augmentation(self, augment: Any, preprocessing: Any) -> Callable:
        """Return views of a name that change no colours, or of a callable.

        The callable maps an array (h, w, c) to another one, or to a tensor (c, h, w).
        """
        if callable(augment):
            return View(augment, preprocessing.n_channels)
        if augment not in _PRESETS:
            raise ValueError(
                f"`augment` must be None, a callable or one of {list(_PRESETS)} for a "
                f"backbone that takes {NOUN}. Got {augment!r}."
            )
        return View(Preset(augment, preprocessing), preprocessing.n_channels)

    def examples(self, preprocessing: Any, n: int) -> list[np.ndarray]:
        """Return noise, of another brightness in each image."""
        channels, *size = preprocessing.input_shape
        mean = np.float32(getattr(preprocessing, "mean", 0))
        std = np.float32(getattr(preprocessing, "std", 1))
        shape = n, *size, channels
        noise = np.random.RandomState(0).rand(*shape).astype(np.float32)
        return [mean + std * (image + k) for k, image in enumerate(noise)]

    def raw_input(self, preprocessing: MultichannelPreprocessing) -> nn.Module:
        """Return the module that resizes and normalises."""
        return RawMultichannel(preprocessing)


@dataclass(frozen=True)
class View:
    """Random views of images of several channels, by any function of them.

    Parameters
    ----------
    augment : callable
        From an array (h, w, c) to another one, or to a tensor (c, h, w).
    n_channels : int
    """

    augment: Callable
    n_channels: int

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return a view (h, w, c) of an image, which stays as it is."""
        view = self.augment(image.copy())
        if isinstance(view, torch.Tensor):
            view = to_numpy(view.movedim(0, -1))
        view = np.ascontiguousarray(view, dtype=np.float32)
        if view.ndim != 3 or view.shape[2] != self.n_channels:
            raise ValueError(
                f"it must return an array of shape (h, w, {self.n_channels}) or a "
                f"tensor of shape ({self.n_channels}, h, w). Got an array of shape "
                f"{view.shape}."
            )
        return view


@dataclass(frozen=True)
class Preset:
    """Random views of images by the name of a preset, with torchvision."""

    name: str
    preprocessing: MultichannelPreprocessing

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        """Return a view (c, h, w) of an image (h, w, c)."""
        transform = preset_augmentation(self.name, self.preprocessing)
        return transform(torch.from_numpy(image).permute(2, 0, 1))


def _items_of(X, n_channels):
    """Return images as a list, or as an array of numbers of which each is a row."""
    if not isinstance(X, list | tuple):
        array = np.asanyarray(_plain(X)) if hasattr(X, "__array__") else None
        if array is None or array.ndim == 0:
            raise _shape_error(n_channels, _short(X))
        if array.dtype != object:
            return array
        X = array
    return [*map(_plain, X)]


def _check_items(items, n_channels):
    """Raise a ValueError for an image that is no array of so many channels."""
    if len(items) == 0:
        raise ValueError("X must have at least 1 sample. Got 0.")
    if isinstance(items, np.ndarray):
        if not _is_image(items[0], n_channels):
            raise _shape_error(n_channels, f"shape {items.shape}")
        items = items[:1]
    for row, image in enumerate(items):
        if not _is_image(image, n_channels):
            found = getattr(image, "shape", _short(image))
            raise _shape_error(n_channels, f"{found} as sample {row}")
        if image.dtype.kind not in "buif":
            raise ValueError(f"X must hold real numbers. Got dtype {image.dtype}.")


def _is_image(image, n_channels):
    shape = getattr(image, "shape", ())
    if 0 in shape:
        return False
    if len(shape) == 2:
        return n_channels == 1
    return len(shape) == 3 and n_channels in (shape[0], shape[2])


def _shape_error(n_channels, found):
    return ValueError(
        f"X must be an array of shape (n, h, w, {n_channels}) or (n, {n_channels}, h, "
        f"w), or a list of such images, as the `preprocessing` has {n_channels} "
        f"channel{'s' * (n_channels > 1)}. Got {found}."
    )


def _short(value):
    """Return the representation of a value, with few of its items."""
    shortened = Repr()
    shortened.maxlevel, shortened.maxother = 1, 80
    return shortened.repr(value)


def _plain(values):
    return to_numpy(values) if isinstance(values, torch.Tensor) else values


MODALITIES.add_built_in("multichannel", Multichannel())
