"""The samples of a training: weights, a share held out for validation, and batches."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skorch.dataset import Dataset
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler

from sktransfer.utils import compute_class_weight

__all__ = [
    "ActivationBatches",
    "ActivationDataset",
    "Data",
    "batches_in_order",
    "hold_out",
    "merge_equal",
    "weigh_classes",
]


def weigh_classes(class_weight, y, sample_weight, classes=None):
    """Multiply the weights of samples by those of their classes.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        "balanced" gives all classes the same total weight and keeps the sum of the
        weights.
    y : ndarray of shape (n_samples,)
        Labels.
    sample_weight : ndarray of shape (n_samples,)
    classes : ndarray of shape (n_classes,), default=None
        All labels in order, also those that y lacks; by default those of y.

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    if class_weight is None:
        return sample_weight
    classes = np.unique(y) if classes is None else classes
    codes = np.searchsorted(classes, y)
    if class_weight != "balanced":
        by_class = compute_class_weight(class_weight, classes=classes, y=y)
        return sample_weight * by_class[codes]
    # scikit-learn's "balanced" counts samples, whatever they weigh.
    totals = np.bincount(codes, sample_weight, minlength=len(classes))
    share = sample_weight.sum() / max(1, np.count_nonzero(totals))
    return sample_weight * share / np.where(totals, totals, 1.0)[codes]


def merge_equal(digests, y, sample_weight):
    """Find the distinct samples that have weight.

    Equal samples with equal labels become one sample with the sum of their weights. So
    weight two equals repeating a sample, and weight zero equals leaving it out, which
    does not hold for minibatches drawn by position.

    Parameters
    ----------
    digests : list of bytes
        Equal for equal samples.
    y : ndarray of shape (n_samples,)
        Labels in [0, n_classes).
    sample_weight : ndarray of shape (n_samples,)

    Returns
    -------
    indices : ndarray of shape (n_distinct,)
        First occurrences, in an order that does not depend on that of the samples.
    weights : ndarray of shape (n_distinct,)
    """
    groups = {}
    for i in np.flatnonzero(sample_weight):
        groups.setdefault((digests[i], y[i]), []).append(i)
    ordered = [groups[key] for key in sorted(groups)]
    # `fsum` rounds once, so the order of the terms does not matter.
    weights = [math.fsum(sample_weight[group]) for group in ordered]
    return np.array([group[0] for group in ordered], dtype=int), np.array(weights)


def hold_out(codes, fraction, seed):
    """Choose samples to validate on, stratified by class.

    No class loses its last sample. :func:`sklearn.model_selection.train_test_split`
    refuses to stratify classes of one sample, and fewer held-out samples than classes.

    Parameters
    ----------
    codes : ndarray of shape (n_samples,)
        Classes, or zeros where there are none.
    fraction : float
        Share of all samples, rounded, and at least one sample. Each class gives its
        share, rounded down; those with the largest remainders give one more.
    seed : int

    Returns
    -------
    ndarray of shape (n_held,)
        Indices in ascending order.

    Raises
    ------
    ValueError
        If every class has a single sample.
    """
    rng = np.random.default_rng(seed)
    order = [rng.permutation(np.flatnonzero(codes == c)) for c in np.unique(codes)]
    spare = np.array([len(o) - 1 for o in order])
    if not spare.any():
        raise ValueError(
            "`early_stopping` needs a class with two samples to hold one out. Give "
            "`X_val` and `y_val` to `fit`, or set `early_stopping=False`."
        )
    exact = np.minimum(fraction * (spare + 1), spare)
    n_held = np.floor(exact).astype(int)
    n_more = max(1, round(fraction * len(codes))) - n_held.sum()
    order_of_remainders = np.argsort(n_held - exact - spare * 1e-9, kind="stable")
    can_give = [i for i in order_of_remainders if n_held[i] < spare[i]]
    n_held[can_give[: max(0, n_more)]] += 1
    return np.sort(np.concatenate([o[:n] for o, n in zip(order, n_held, strict=True)]))


@dataclass(frozen=True)
class Data:
    """Samples to train or to validate on.

    Attributes
    ----------
    activations : Activations or torch.Tensor of shape (n_samples, ...)
    y : torch.Tensor of shape (n_samples, ...)
    sample_weight : ndarray of shape (n_samples,)
    """

    activations: Any
    y: torch.Tensor
    sample_weight: Any

    def dataset(self):
        """Return a dataset whose weights have a mean of one (ActivationDataset)."""
        weight = torch.as_tensor(self.sample_weight, dtype=torch.float32)
        return ActivationDataset(self.activations, self.y, weight / weight.mean())


class ActivationDataset(Dataset):
    """Activations, targets and weights that are indexed one batch at a time.

    Parameters
    ----------
    activations : torch.Tensor of shape (n_samples, ...)
    y : torch.Tensor of shape (n_samples,)
    sample_weight : torch.Tensor of shape (n_samples,)
    """

    def __init__(self, activations, y, sample_weight):
        self.activations = activations
        self.y = y
        self.sample_weight = sample_weight

    @property
    def X(self):
        """What skorch's scores without caching predict: the dataset itself."""
        return self

    def __len__(self):
        return len(self.activations)

    def __getitem__(self, indices):
        return self.activations[indices], (self.y[indices], self.sample_weight[indices])


class ActivationBatches:
    """Iterate over an `ActivationDataset` in batches, as a data loader for skorch.

    torch's DataLoader would draw from the global generator.

    Parameters
    ----------
    dataset : ActivationDataset
    batch_size : int
        BatchNorm in train mode needs two samples, so a last batch of one sample is
        joined to the batch before it.
    generator : torch.Generator, default=None
        Shuffles the samples in each pass; None keeps the order.
    """

    def __init__(self, dataset, batch_size, generator=None):
        self.dataset = dataset
        if generator is None:
            sampler = SequentialSampler(dataset)
        else:
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
            yield self.dataset[torch.tensor(indices)]


def batches_in_order(dataset, batch_size):
    """Return an iterator over batches in order, as skorch's loader for validation.

    Parameters
    ----------
    dataset : ActivationDataset or torch.utils.data.Dataset
        The latter is what skorch makes of tensors that a user predicts.
    batch_size : int
    """
    if isinstance(dataset, ActivationDataset):
        return ActivationBatches(dataset, batch_size)
    return torch.utils.data.DataLoader(dataset, batch_size)
