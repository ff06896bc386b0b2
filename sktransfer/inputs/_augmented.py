"""Random views of samples, each fixed by a seed of its own."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.exceptions import NotFittedError

from sktransfer.compute import seeded
from sktransfer.utils import digest


class AugmentedSamples:
    """Samples of any modality, each replaced by one random view that its seed fixes.

    `augment` maps a sample to another one, as :meth:`Modality.augmentation` returns it.
    The seeds, one per sample in [0, 2**63), fix what it draws from torch's global
    generator, whose state is restored. `digests` identify the views, and `drawn_for`
    the samples that the seeds were drawn for; by default these are ``samples.digests``.
    """

    labels = None

    def __init__(
        self,
        samples: Any,
        augment: Callable,
        seeds: Any,
        digests: Any = None,
        drawn_for: Any = None,
    ):
        self._samples = samples
        self._augment = augment
        self._seeds = seeds
        self.digests = digests
        self._drawn_for = samples.digests if drawn_for is None else drawn_for

    def __len__(self):
        """Return the number of samples."""
        return len(self._samples)

    def __getitem__(self, i):
        """Return the view of sample `i`.

        If the augmentation fails, a ValueError names the sample.
        """
        return self._view(self._samples[i], i, self._seeds[i])

    def read(self, i: int) -> tuple[bytes, Any]:
        """Read sample `i` once; return the digest of its view, and the view.

        The digest is the one in ``digests`` only if the sample is still the one that
        the seed was drawn for.
        """
        found, sample = self._samples.read(i)
        is_same = self._drawn_for is not None and found == self._drawn_for[i]
        known = self.digests[i] if is_same else digest(found, "another sample")
        return known, self._view(sample, i, self._seeds[i])

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
        sample = self._samples[0]
        views = [[self._view(sample, 0, s) for s in self._seeds] for _ in range(2)]
        return all(np.array_equal(*both) for both in zip(*views, strict=True))

    def _view(self, sample, i, seed):
        try:
            with seeded(seed):
                return self._augment(sample)
        except NotFittedError:  # no sample is to blame for it
            raise
        except Exception as error:
            raise ValueError(
                f"`augment` failed on {self.describe(i)}: {type(error).__name__}: "
                f"{error}"
            ) from error

    def take(self, indices: Any) -> Self:
        """Return the views of some of the samples."""
        seeds = [self._seeds[i] for i in indices]
        known = self.digests
        digests = None if known is None else [known[i] for i in indices]
        known = self._drawn_for
        drawn_for = None if known is None else [known[i] for i in indices]
        samples = self._samples.take(indices)
        return type(self)(samples, self._augment, seeds, digests, drawn_for)

    def describe(self, i: int) -> str:
        """Return the words for sample `i` in messages."""
        return self._samples.describe(i)
