"""Random views of images, each fixed by a seed of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from sklearn.exceptions import NotFittedError

from sktransfer.compute import seeded
from sktransfer.inputs._reading import to_numpy
from sktransfer.inputs.images._pixels import array_to_image, range_of_dtype
from sktransfer.utils import digest

if TYPE_CHECKING:
    from torchvision.transforms import v2

PRESETS = ("crop", "crop_flip", "light", "medium", "strong")
# Shares of the area. ImageNet's training has 0.08 at the lowest.
_CROP_SCALES = {
    "crop": (0.35, 1.0),
    "crop_flip": (0.35, 1.0),
    "light": (0.75, 1.0),
    "medium": (0.35, 1.0),
    "strong": (0.08, 1.0),
}
_JITTER = 0.3


def preset_augmentation(name: str, preprocessing: Any) -> v2.Transform:
    """Return a common augmentation by its name.

    "crop" is a random crop of 35% to 100% of the area, with its aspect ratio changed by
    up to 4:3, and "crop_flip" mirrors at random as well. "light" does the same with 75%
    to 100% of the area. "medium" is "crop_flip" with brightness, contrast and
    saturation changed by up to 30%. "strong" is a crop of 8% to 100%, mirrored at
    random, followed by a random operation of TrivialAugment (Müller and Hutter, 2021,
    https://arxiv.org/abs/2103.10158) and, half of the time, by the erasure of one
    rectangle. Crops have the size that the preprocessing resizes to. "auto" is the
    mirror image.
    """
    from torchvision.transforms import v2

    if name == "auto":
        return v2.RandomHorizontalFlip(p=1.0)
    resize = preprocessing.resize
    size = (resize, resize) if isinstance(resize, int) else resize
    steps = [v2.RandomResizedCrop(size, scale=_CROP_SCALES[name], antialias=True)]
    if name != "crop":
        steps.append(v2.RandomHorizontalFlip())
    if name == "medium":
        steps.append(v2.ColorJitter(*[_JITTER] * 3))
    if name == "strong":
        erase = v2.RandomErasing(p=0.5)
        steps += [v2.TrivialAugmentWide(), v2.PILToTensor(), erase]
    return v2.Compose(steps)


class AugmentedSamples:
    """Samples of images, each replaced by one random view that its seed fixes.

    `augment` maps a PIL image in mode RGB to another one, to a tensor of shape (3, h,
    w), as the transforms of torchvision do, or to an array of shape (h, w, 3), both of
    uint8 or of floats from 0 to 1. The seeds, one per sample in [0,
    2**63), fix what it draws from torch's global generator, whose state is restored.
    `digests` identify the views, and `drawn_for` the samples that the seeds were drawn
    for; by default these are ``samples.digests``.
    """

    labels = None

    def __init__(self, samples, augment, seeds, digests=None, drawn_for=None):
        self._samples = samples
        self._augment = augment
        self._seeds = seeds
        self.digests = digests
        self._drawn_for = samples.digests if drawn_for is None else drawn_for

    def __len__(self):
        """Return the number of samples."""
        return len(self._samples)

    def __getitem__(self, i):
        """Return the view of sample `i` as a PIL image in mode RGB.

        If the augmentation fails, a ValueError names the sample.
        """
        return self._view(self._samples[i], i, self._seeds[i])

    def read(self, i: int) -> tuple[bytes, Image.Image]:
        """Read sample `i` once; return the digest of its view, and the view.

        The digest is the one in ``digests`` only if the sample is still the one that
        the seed was drawn for.
        """
        found, image = self._samples.read(i)
        is_same = self._drawn_for is not None and found == self._drawn_for[i]
        known = self.digests[i] if is_same else digest(found, "another sample")
        return known, self._view(image, i, self._seeds[i])

    def can_change(self, i: int) -> bool:
        """Return whether view `i` may be another one when it is read again."""
        return self._samples.can_change(i)

    def warn_of_change(self, i: int) -> None:
        """Warn, once, that sample `i` differs from its first reading."""
        self._samples.warn_of_change(i)

    def repeats(self) -> bool:
        """Return whether each seed gives the same view of the first sample twice.

        It does not where the augmentation draws from another generator than torch's.
        """
        image = self._samples[0]
        views = [[self._view(image, 0, s) for s in self._seeds] for _ in range(2)]
        return all(
            one.size == other.size and one.tobytes() == other.tobytes()
            for one, other in zip(*views, strict=True)
        )

    def _view(self, image, i, seed):
        image = image.copy()  # it may be the user's own, and be drawn on
        try:
            with seeded(seed):
                view = self._augment(image)
        except NotFittedError:  # no sample is to blame for it
            raise
        except Exception as error:
            raise ValueError(
                f"`augment` failed on {self.describe(i)}: {type(error).__name__}: "
                f"{error}"
            ) from error
        return self._as_image(view, i)

    def _as_image(self, view, i):
        if isinstance(view, Image.Image):
            return view.convert("RGB")
        if isinstance(view, torch.Tensor):  # channels first, as torchvision has them
            view = to_numpy(view.movedim(0, 2) if view.ndim == 3 else view)
        if not isinstance(view, np.ndarray):
            raise TypeError(
                "`augment` must return a PIL image, an array of shape (h, w, 3) or a "
                f"tensor of shape (3, h, w). Got {type(view).__name__} for "
                f"{self.describe(i)}."
            )
        try:
            return array_to_image(view, None, range_of_dtype(view.dtype))
        except ValueError as error:
            raise ValueError(
                f"`augment` returned what is no image for {self.describe(i)}: {error}"
            ) from error

    def take(self, indices: Any) -> AugmentedSamples:
        """Return the views of some of the samples."""
        seeds = [self._seeds[i] for i in indices]
        known = self.digests
        digests = None if known is None else [known[i] for i in indices]
        known = self._drawn_for
        drawn_for = None if known is None else [known[i] for i in indices]
        samples = self._samples.take(indices)
        return AugmentedSamples(samples, self._augment, seeds, digests, drawn_for)

    def describe(self, i: int) -> str:
        """Return the words for sample `i` in messages."""
        return self._samples.describe(i)
