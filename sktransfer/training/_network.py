"""The part of a network that is trained: suffix, pooling and head."""

from functools import partial

import torch
from torch import nn

from sktransfer.compute import channels_last, fixed_threads, halving

__all__ = ["Network"]


class Network(nn.Module):
    """Activations at the boundary to predictions.

    Parameters
    ----------
    suffix : torch.nn.Module
        The stages above the boundary; an identity if there are none.
    pool : torch.nn.Module
        To one vector a sample.
    head : torch.nn.Module or None, default=None
        From vectors to scores.
    augment : torch.nn.Module or None, default=None
        What activations go through first, in train mode.
    """

    def __init__(self, suffix, pool, head=None, augment=None):
        super().__init__()
        self.augment = nn.Identity() if augment is None else augment
        self.suffix = suffix
        self.pool = pool
        self.head = head

    def forward(self, z):
        """Compute scores.

        Parameters
        ----------
        z : torch.Tensor of shape (n, ...)
            Activations at the boundary.

        Returns
        -------
        torch.Tensor of shape (n, n_outputs)
        """
        return self.scores(self.augment(z))

    def scores(self, z):
        """Compute scores of activations that are augmented, as `forward` does."""
        return self.head(self.describe(z))

    def describe(self, z):
        """Compute what the head sees.

        Parameters
        ----------
        z : torch.Tensor of shape (n, ...)

        Returns
        -------
        torch.Tensor of shape (n, d)
        """
        return self.pool(self.suffix(channels_last(z)))

    def features(self, activations, batch_size):
        """Compute what the head sees, in eval mode and without gradients.

        Parameters
        ----------
        activations : torch.Tensor of shape (n_samples, ...)
            On the CPU.
        batch_size : int

        Returns
        -------
        torch.Tensor of shape (n_samples, d)
            On the CPU.
        """
        modes = self.suffix.training
        self.suffix.eval()
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        size, parts = batch_size, []

        def compute(z, size):
            return [self.describe(part.to(device)).cpu() for part in z.split(size)]

        for z in activations.split(batch_size):
            with torch.no_grad(), fixed_threads():
                described, size = halving(partial(compute, z), size, device)
            parts += described
        self.suffix.train(modes)
        return torch.cat(parts)
