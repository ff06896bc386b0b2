"""Samples of a training: weights, validation split, batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from skorch.dataset import Dataset
from torch.utils.data import BatchSampler, RandomSampler, Sampler, SequentialSampler

from sktransfer.activations import (
    Activations,
    FixedViews,
    FreshViews,
    digest_samples,
)
from sktransfer.compute import ALONE, Ranks, take_rows
from sktransfer.inputs import to_numpy
from sktransfer.utils import (
    check_consistent_length,
    check_sample_weight,
    warn_caller,
)

# A share of the samples is held out, and more of few, up to so many.
_SHARES_HELD, _ENOUGH_HELD = (0.1, 0.2), 50


def targets_of(samples, y, name="y"):
    """Return targets or, without any, the labels of the samples."""
    y = samples.labels if y is None else y
    if y is None:
        raise ValueError(
            f"`{name}` is needed, as the samples are no Dataset with labels. The "
            "estimator requires y to be passed, but the target y is None."
        )
    y = to_numpy(y) if isinstance(y, torch.Tensor) else y
    check_consistent_length(samples, y)
    return y


def merge_equal(
    digests: list[bytes], y: Sequence | np.ndarray, sample_weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Merge equal samples; return the first index and the total weight of each.

    Samples with equal digests and labels are merged, samples without weight are left
    out, and the result does not depend on the order of the samples. So a weight of two
    equals repeating a sample and a weight of zero equals leaving it out, even though
    minibatches are drawn by position.
    """
    groups: dict[tuple, list[int]] = {}
    for i in map(int, np.flatnonzero(sample_weight)):
        groups.setdefault((digests[i], y[i]), []).append(i)
    ordered = [groups[key] for key in sorted(groups)]
    # `fsum` rounds once, so the order of the terms does not matter.
    weights = [math.fsum(sample_weight[group]) for group in ordered]
    return np.array([group[0] for group in ordered], dtype=int), np.array(weights)


class LabelledSamples(NamedTuple):
    """Distinct samples, which have ``digests``, their encoded targets and weights.

    ``y`` has the shape (n_samples, ...), and ``weight`` the shape (n_samples,).
    """

    samples: Any
    y: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, samples, y, sample_weight, outputs, weigh: Callable) -> LabelledSamples:
        """Encode targets, merge equal samples, and leave out those without weight.

        ``weigh`` maps targets, given weights and outputs to the weights of samples.
        """
        codes = outputs.encode(y)
        weight = check_sample_weight(
            sample_weight, codes, dtype=np.float64, ensure_non_negative=True
        )
        weight = weigh(y, weight, outputs)
        digests = digest_samples(samples)
        _warn_if_all_equal(digests)
        rows, weight = merge_equal(digests, [c.tobytes() for c in codes], weight)
        return cls(_take(samples, digests, rows), codes[rows], weight)

    def hold_out(self, held: np.ndarray) -> tuple[LabelledSamples, LabelledSamples]:
        """Return the samples that are not held out, and those that are."""
        rest = np.setdiff1d(np.arange(len(self.y)), held)
        return self._take(rest), self._take(held)

    def _take(self, rows):
        samples = _take(self.samples, self.samples.digests, rows)
        return LabelledSamples(samples, self.y[rows], self.weight[rows])


class FitSamples(NamedTuple):
    """Samples of one fit.

    Attributes
    ----------
    train : LabelledSamples
    validation : LabelledSamples or None
        Samples whose loss is computed after each epoch.
    trial : FitSamples or None
        Two parts of `train`, to choose the number of epochs by.
    """

    train: LabelledSamples
    validation: LabelledSamples | None = None
    trial: FitSamples | None = None


def sort_by_content(samples):
    """Return samples in the order of their contents, with ``digests``."""
    digests = digest_samples(samples)
    return _take(samples, digests, sorted(range(len(digests)), key=digests.__getitem__))


def _take(samples, digests, rows):
    """Return some of the samples, with their digests."""
    taken = samples.take(rows)
    taken.digests = [digests[row] for row in rows]
    return taken


def _warn_if_all_equal(digests):
    if len(digests) > 1 and len({*digests}) == 1:
        warn_caller(
            f"All {len(digests)} samples are equal, so nothing distinguishes them. "
            "Look at `X[0]` and at how `X` was made."
        )


def hold_out(codes: np.ndarray, fraction: float | str, seed: int) -> np.ndarray:
    """Choose validation samples, stratified by class (sorted indices).

    Their number is the rounded fraction of all samples, and at least one; "auto" is a
    fifth of few samples and a tenth of many (:class:`EarlyStopping`). From each
    class, the fraction of its samples is held out, rounded down; one more from those
    with the largest remainders; but never its last sample. In contrast,
    :func:`sklearn.model_selection.train_test_split` raises an error for classes of one
    sample and for fewer validation samples than classes.
    """
    rng = np.random.default_rng(seed)
    order = [rng.permutation(np.flatnonzero(codes == c)) for c in np.unique(codes)]
    spare = np.array([len(o) - 1 for o in order])
    if not spare.any():
        raise ValueError(
            "`early_stopping` needs a class with two samples to hold one out. Give "
            "`X_val` and `y_val` to `fit`, or set `early_stopping=False`."
        )
    if isinstance(fraction, str):
        fraction = float(np.clip(_ENOUGH_HELD / len(codes), *_SHARES_HELD))
    exact = np.minimum(fraction * (spare + 1), spare)
    n_held = np.floor(exact).astype(int)
    n_more = max(1, round(fraction * len(codes))) - n_held.sum()
    order_of_remainders = np.argsort(n_held - exact - spare * 1e-9, kind="stable")
    can_give = [i for i in order_of_remainders if n_held[i] < spare[i]]
    n_held[can_give[: max(0, n_more)]] += 1
    return np.sort(np.concatenate([o[:n] for o, n in zip(order, n_held, strict=True)]))


@dataclass(frozen=True)
class Data:
    """Training or validation samples.

    Attributes
    ----------
    activations : Activations or torch.Tensor of shape (n_samples, ...)
        Activations at the boundary.
    y : torch.Tensor of shape (n_samples, ...)
        Encoded targets.
    sample_weight : ndarray of shape (n_samples,)
        Weights, of any scale.
    """

    activations: Any
    y: torch.Tensor
    sample_weight: Any

    def dataset(self) -> ActivationDataset:
        """Return a dataset with the weights scaled to a mean of one."""
        weight = torch.as_tensor(self.sample_weight, dtype=torch.float32)
        return ActivationDataset(self.activations, self.y, weight / weight.mean())


class LabelledActivations(NamedTuple):
    """Activations of samples, random views of them, and targets and weights.

    ``views`` is None if there are none. ``y`` has the shape (n_samples, ...), and
    ``weight`` the shape (n_samples,).
    """

    activations: Activations
    views: FixedViews | FreshViews | None
    y: torch.Tensor
    weight: np.ndarray

    @property
    def data(self) -> Data:
        """What epochs are trained on."""
        seen = self.activations if self.views is None else self.views
        return Data(seen, self.y, self.weight)

    @property
    def probe_inputs(self) -> list:
        """Fixed views where there are only such; otherwise the samples themselves."""
        drawn = self.views.views if isinstance(self.views, FixedViews) else ()
        return [self.activations] if self.activations in drawn or not drawn else drawn


class ActivationDataset(Dataset):
    """Activations, targets and weights, indexed by the positions of a batch."""

    def __init__(self, activations, y: torch.Tensor, sample_weight: torch.Tensor):
        self.activations = activations
        self.y = y
        self.sample_weight = sample_weight

    @property
    def X(self):
        """The dataset itself, on which skorch's scorers call `predict`."""
        return self

    def __len__(self):
        return len(self.activations)

    def __getitem__(self, indices):
        return self.activations[indices], (self.y[indices], self.sample_weight[indices])

    def share(self, indices: torch.Tensor, rows: slice):
        """Return a batch, with the activations of some of its rows alone.

        Random views are those that all rows together would have.
        """
        n = rows.stop - rows.start
        loaded = slice(rows.start, rows.stop) if n else slice(0, 1)
        take = getattr(self.activations, "share", None)  # of random views
        z = take(indices, loaded) if take else self.activations[indices[loaded]]
        return take_rows(z, slice(n)), (self.y[indices], self.sample_weight[indices])


class ActivationBatches:
    """Data loader of skorch that iterates over an `ActivationDataset` in batches.

    A generator shuffles the samples in each pass; None keeps their order. (torch's
    DataLoader draws from the global generator.) As BatchNorm in train mode needs two
    samples, a last batch of one sample is merged with the batch before it.

    Of several processes, each one has the activations of its share of a batch, and the
    targets and weights of the whole batch.
    """

    def __init__(
        self,
        dataset: ActivationDataset,
        batch_size: int,
        generator: torch.Generator | None = None,
        ranks: Ranks = ALONE,
    ):
        self.dataset = dataset
        self.ranks = ranks
        sampler: Sampler = SequentialSampler(dataset)
        if generator is not None:
            sampler = RandomSampler(dataset, generator=generator)
        self._batches = BatchSampler(sampler, int(batch_size), drop_last=False)

    def __len__(self):
        n_batches, size = len(self._batches), self._batches.batch_size
        return n_batches - (n_batches > 1 and len(self.dataset) % size == 1)

    def __iter__(self):
        batches = [*self._batches]
        if len(batches) > len(self):
            batches[-2:] = [batches[-2] + batches[-1]]
        for indices in batches:
            rows = self.ranks.share(len(indices))
            yield self.dataset.share(torch.tensor(indices), rows)


def batches_in_order(dataset, batch_size: int):
    """Return unshuffled batches, for validation and for predictions on tensors."""
    if isinstance(dataset, ActivationDataset):
        return ActivationBatches(dataset, batch_size)
    return torch.utils.data.DataLoader(dataset, batch_size)


class HeadData(NamedTuple):
    """Data to solve a head on, with one row per view of a sample.

    Features have shape (n, d). The views of a sample have equal parts of its weight,
    and `groups` holds the index of the sample of each row.
    """

    features: torch.Tensor
    y: np.ndarray
    weight: np.ndarray
    groups: np.ndarray


def check_finite(features: torch.Tensor) -> None:
    """Raise a ValueError if the features of a sample (n, d) hold NaN or infinity."""
    is_bad = ~torch.isfinite(features).all(1)
    if is_bad.any():
        raise ValueError(
            f"The network computes NaN or infinity for {int(is_bad.sum())} of "
            f"{len(features)} samples, the first of which has index "
            f"{int(is_bad.int().argmax())}. Every sample that was read is finite, so "
            "look at the layers of the network, such as logarithms and divisions, its "
            "weights, and what its preprocessing returns."
        )


def head_data(
    network, views: list, y: torch.Tensor, weight: np.ndarray, batch_size: int
) -> HeadData:
    """Compute the data to solve a head on from the activations of each view.

    It is a ValueError if features are not finite.
    """
    n_views = len(views)
    features = [network.features(activations, batch_size) for activations in views]
    for of_view in features:
        check_finite(of_view)
    return HeadData(
        torch.cat(features),
        torch.cat([y] * n_views).numpy(),
        np.tile(weight / n_views, n_views),
        np.tile(range(len(y)), n_views),
    )
