"""The values that flow between the steps of a fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from sktransfer.activations import FixedViews, digest_samples
from sktransfer.training import Data, Network, SuffixNet, merge_equal
from sktransfer.utils import check_sample_weight, warn_caller

__all__ = [
    "AtBoundary",
    "Before",
    "Labelled",
    "Request",
    "Trained",
    "Validation",
    "in_order",
]


class Validation(NamedTuple):
    """Validation samples as `fit` got them."""

    X: Any
    y: Any
    sample_weight: Any

    def check(self) -> Validation | None:
        """Return itself, or None if nothing was given.

        Raises
        ------
        ValueError
            If there are labels or weights without samples.
        """
        if self.X is not None:
            return self
        given = {"y_val": self.y, "sample_weight_val": self.sample_weight}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"`X_val` is needed with `{name}`. Got None.")
        return None


class Request(NamedTuple):
    """What is asked of a training, besides the samples.

    Attributes
    ----------
    goes_on : bool
        Whether the training of the fitted network goes on.
    is_part : bool
        Whether it is a call of `partial_fit`, which others may follow.
    classes : array-like or None
        All classes that will ever come, if `partial_fit` got them.
    validation : Validation or None
    X_target : array-like or None
        Samples of a target domain.
    method : AdaptationMethod or None
        How to adapt to it.
    """

    goes_on: bool
    is_part: bool
    classes: Any = None
    validation: Validation | None = None
    X_target: Any = None
    method: Any = None


class Before(NamedTuple):
    """What a training that goes on takes over from the one before.

    Attributes
    ----------
    strength : float or None
        Of the penalty of the probe, if there was one.
    online : tuple or None
        Summary of the samples before, of a head that is solved part by part.
    n_before : int
        Number of samples of the first training.
    """

    strength: float | None
    online: tuple | None
    n_before: int


class Labelled(NamedTuple):
    """Distinct samples, their encoded targets and their weights.

    Attributes
    ----------
    samples : Samples or VectorSamples
        With ``digests``.
    y : ndarray of shape (n_samples, ...)
    weight : ndarray of shape (n_samples,)
    """

    samples: Any
    y: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, samples, y, sample_weight, outputs, weigh: Callable) -> Labelled:
        """Encode targets, merge equal samples, and leave out those without weight.

        Parameters
        ----------
        samples : Samples or VectorSamples
        y : array-like of shape (n_samples, ...)
        sample_weight : array-like of shape (n_samples,) or None
        outputs : ClassOutputs or RegressionOutputs
        weigh : callable
            From targets, weights and outputs to the weights of the samples.
        """
        codes = outputs.encode(y)
        weight = check_sample_weight(
            sample_weight, codes, dtype=np.float64, ensure_non_negative=True
        )
        weight = weigh(y, weight, outputs)
        digests = digest_samples(samples)
        _warn_of_equal(digests)
        rows, weight = merge_equal(digests, [c.tobytes() for c in codes], weight)
        samples = samples.take(rows)
        samples.digests = [digests[row] for row in rows]
        return cls(samples, codes[rows], weight)

    def split(self, held: np.ndarray) -> tuple[Labelled, Labelled]:
        """Return the samples that are not held out, and those that are."""
        rest = np.setdiff1d(np.arange(len(self.y)), held)
        return self.take(rest), self.take(held)

    def take(self, rows: np.ndarray) -> Labelled:
        """Return some of the samples."""
        samples = self.samples.take(rows)
        samples.digests = [self.samples.digests[row] for row in rows]
        return Labelled(samples, self.y[rows], self.weight[rows])


class AtBoundary(NamedTuple):
    """Samples that were brought to a boundary, for a training.

    Attributes
    ----------
    activations : Activations
        Of the samples as they are.
    views : FixedViews, FreshViews or None
        Random views of them.
    y : torch.Tensor of shape (n_samples, ...)
    weight : ndarray of shape (n_samples,)
    """

    activations: Any
    views: Any
    y: torch.Tensor
    weight: np.ndarray

    @property
    def data(self) -> Data:
        """What epochs are trained on."""
        seen = self.activations if self.views is None else self.views
        return Data(seen, self.y, self.weight)

    @property
    def seen_by_probe(self) -> list:
        """Fixed views where there are some; otherwise the samples as they are."""
        is_fixed = isinstance(self.views, FixedViews)
        return self.views.views if is_fixed else [self.activations]


class Trained(NamedTuple):
    """Result of a training.

    Attributes
    ----------
    network : Network
        Suffix, pool and head above the boundary.
    net : SuffixNet
    rows : list of dict
        Of the history, one per epoch.
    report : list of dict
        What the pass through the frozen stages took from the store, computed and kept.
    strength : float or None
        Of the probe's penalty, if there was one.
    drift : float or None
        Of the features; None if it was not measured.
    online : tuple or None
        Summary of all samples so far, of a head that is solved part by part.
    state : dict or None
        What an adaptation method left.
    n_trainable : int or None
        Number of weights that were trained: of the stages or their adapters, and of
        the head.
    """

    network: Network
    net: SuffixNet
    rows: list
    report: list
    strength: float | None = None
    drift: float | None = None
    online: tuple | None = None
    state: dict | None = None
    n_trainable: int | None = None


def in_order(samples):
    """Return samples in the order of their contents, with ``digests``."""
    digests = digest_samples(samples)
    order = sorted(range(len(digests)), key=digests.__getitem__)
    samples = samples.take(order)
    samples.digests = [digests[i] for i in order]
    return samples


def _warn_of_equal(digests):
    """Warn if all samples are equal."""
    if len(digests) > 1 and len({*digests}) == 1:
        warn_caller(
            f"All {len(digests)} samples are equal: there is nothing to tell them "
            "apart by. Look at `X[0]` and at how `X` was made."
        )
