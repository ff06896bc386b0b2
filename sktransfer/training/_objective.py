"""What is minimised beside the loss: a function of these samples and of others."""

from typing import NamedTuple

import torch
from torch import nn

from sktransfer.compute import join_states, n_samples

__all__ = ["Objective", "Seen"]


class Seen(NamedTuple):
    """What a network makes of a batch.

    Attributes
    ----------
    features : torch.Tensor of shape (n, d)
        What the head sees.
    scores : torch.Tensor of shape (n, n_outputs)
    """

    features: torch.Tensor
    scores: torch.Tensor


class Objective(nn.Module):
    """Add a function of features and scores to the loss of each batch.

    Parameters
    ----------
    function : callable or torch.nn.Module
        ``function(own, others, progress)`` returns a tensor of shape (). The first two
        are :class:`Seen`, of the batch and of as many other samples, or None if there
        are none; the last is the share of the training that is done. The parameters of
        a module are trained too, see :func:`parameter_groups`.
    others : Activations or None, default=None
        Of samples without targets, at the same boundary.
    weight : float, default=1.0
        What the function is multiplied by.
    seed : int, default=0
        Of the others that go with each batch.
    span : (float, float), default=(0.0, 1.0)
        Where a training that is a part of a whole one begins and ends in it; progress
        is that of the whole.
    """

    def __init__(self, function, others=None, *, weight=1.0, seed=0, span=(0.0, 1.0)):
        super().__init__()
        self.function = function
        self.others = others
        self.weight = weight
        self.seed = seed
        self.span = span

    def draw(self, size, number):
        """Draw others to go with a batch.

        Parameters
        ----------
        size : int
            As many as these, if need be some of them several times.
        number : int
            Of the batch in the training: each has a draw of its own, which is the same
            in a training that was interrupted.

        Returns
        -------
        torch.Tensor of shape (size, ...) or None
            On the CPU.
        """
        if self.others is None:
            return None
        generator = torch.Generator().manual_seed(self.seed + number)
        order = torch.randperm(len(self.others), generator=generator)
        return self.others[order[torch.arange(size) % len(order)]]

    def forward(self, network, z, others, progress):
        """Compute scores of a batch, and what is added to its loss.

        Parameters
        ----------
        network : Network
        z : torch.Tensor of shape (n, ...)
            Augmented activations.
        others : torch.Tensor of shape (m, ...) or None
            Likewise. All go through the network at once.
        progress : float
            Of this training, in [0, 1).

        Returns
        -------
        scores : torch.Tensor of shape (n, n_outputs)
        added : torch.Tensor of shape ()
        """
        n, (begin, end) = n_samples(z), self.span
        progress = begin + (end - begin) * progress
        features = network.describe(z if others is None else join_states([z, others]))
        scores = network.head(features)
        own, rest = Seen(features[:n], scores[:n]), None
        if others is not None:
            rest = Seen(features[n:], scores[n:])
        return own.scores, self.weight * self.function(own, rest, progress)
