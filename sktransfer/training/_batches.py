"""Batches of activations that are already in memory."""

import torch
from skorch.dataset import Dataset

__all__ = ["ActivationBatches", "ActivationDataset", "batches_in_order"]


class ActivationDataset(Dataset):
    """Activations, targets and weights that are indexed a batch at a time.

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
        """What skorch's scores without caching predict: the samples as they are."""
        return self

    def __len__(self):
        return len(self.activations)

    def __getitem__(self, indices):
        return self.activations[indices], (self.y[indices], self.sample_weight[indices])


class ActivationBatches:
    """Iterate over an `ActivationDataset` in batches; skorch's data loader here.

    Parameters
    ----------
    dataset : ActivationDataset
    batch_size : int
        No batch holds a single sample unless there is but one, as BatchNorm in train
        mode needs two: the last sample joins the batch before it.
    generator : torch.Generator, default=None
        Shuffles anew in each pass; None keeps the order.
    """

    def __init__(self, dataset, batch_size, generator=None):
        self.dataset = dataset
        self.batch_size = batch_size
        self.generator = generator

    def __len__(self):
        n, size = len(self.dataset), self.batch_size
        n_batches = -(-n // size)
        return n_batches - (n_batches > 1 and n % size == 1)

    def __iter__(self):
        n = len(self.dataset)
        order = torch.arange(n)
        if self.generator is not None:
            order = torch.randperm(n, generator=self.generator)
        last = len(self) - 1
        for i in range(last + 1):
            stop = n if i == last else (i + 1) * self.batch_size
            yield self.dataset[order[i * self.batch_size : stop]]


def batches_in_order(dataset, batch_size):
    """Return an iterator over batches in order; skorch's loader for validation.

    Parameters
    ----------
    dataset : ActivationDataset or torch.utils.data.Dataset
        The latter is what skorch makes of tensors that a user predicts.
    batch_size : int
    """
    if isinstance(dataset, ActivationDataset):
        return ActivationBatches(dataset, batch_size)
    return torch.utils.data.DataLoader(dataset, batch_size)
