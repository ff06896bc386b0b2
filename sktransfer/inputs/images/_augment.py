"""Random views of images, each fixed by a seed of its own."""

import torch
from PIL import Image
from sklearn.exceptions import NotFittedError
from torchvision.transforms import v2

from sktransfer.compute import seeded
from sktransfer.utils import digest

__all__ = ["PRESETS", "AugmentedSamples", "preset_augmentation"]

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


def preset_augmentation(name, preprocessing):
    """Return a common augmentation by its name.

    Parameters
    ----------
    name : {"crop", "crop_flip", "light", "medium", "strong"}
        "crop" is a random crop of 35% to 100% of the area, its aspect ratio changed by
        up to 4:3, and "crop_flip" mirrors at random besides. "light" does so with 75%
        to 100% of the area. "medium" is "crop_flip" with brightness, contrast and
        saturation changed by up to 30%. "strong" is a crop of 8% to 100%, mirrored, a
        random operation of TrivialAugment (Müller and Hutter, 2021,
        https://arxiv.org/abs/2103.10158), and one rectangle of the image erased, half
        of the time.
    preprocessing : ImagePreprocessing
        What follows.

    Returns
    -------
    torchvision.transforms.v2.Transform
    """
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
    """One random view of each of some samples, always the same one.

    Parameters
    ----------
    samples : Samples
        Images.
    augment : callable
        From a PIL image in mode RGB to another, or to a uint8 tensor of shape
        (3, h, w), such as the transforms of torchvision. What it draws from torch's
        global generator is fixed by the seed; the generator itself is left alone.
    seeds : sequence of int
        One per view, in [0, 2**63).
    digests : list of bytes, default=None
        What identifies each view.
    drawn_for : list of bytes, default=None
        What identified each sample when the seed of its view was drawn; by default
        ``samples.digests``.
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

        Raises
        ------
        ValueError
            If the sample cannot be read, or augmented.
        sklearn.exceptions.NotFittedError
            If the augmentation says that it has to be fitted first.
        TypeError
            If the augmentation returns something else than an image.
        """
        return self._view(self._samples[i], i, self._seeds[i])

    def read(self, i):
        """Read sample `i` once; return the digest of its view and the view.

        The digest is that of ``digests`` only if the sample is the one that the seed of
        its view was drawn for.
        """
        found, image = self._samples.read(i)
        is_same = self._drawn_for is not None and found == self._drawn_for[i]
        known = self.digests[i] if is_same else digest(found, "another sample")
        return known, self._view(image, i, self._seeds[i])

    def can_change(self, i):
        """Return whether another reading of view `i` may give another one (bool)."""
        return self._samples.can_change(i)

    def warn_of_change(self, i):
        """Warn, once, that sample `i` is not what it was before."""
        self._samples.warn_of_change(i)

    def repeats(self):
        """Return whether each seed gives one view of the first sample (bool).

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
        if isinstance(view, torch.Tensor) and view.dtype == torch.uint8:
            view = v2.functional.to_pil_image(view)
        if not isinstance(view, Image.Image):
            raise TypeError(
                "`augment` must return a PIL image or a uint8 tensor of shape "
                f"(3, h, w). Got {type(view).__name__} for {self.describe(i)}."
            )
        return view.convert("RGB")

    def take(self, indices):
        """Return the views of some of the samples (AugmentedSamples)."""
        seeds = [self._seeds[i] for i in indices]
        known = self.digests
        digests = None if known is None else [known[i] for i in indices]
        known = self._drawn_for
        drawn_for = None if known is None else [known[i] for i in indices]
        samples = self._samples.take(indices)
        return AugmentedSamples(samples, self._augment, seeds, digests, drawn_for)

    def describe(self, i):
        """Return the words for sample `i` in messages."""
        return self._samples.describe(i)
