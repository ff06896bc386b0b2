"""Gradients of a batch, all at once or in parts."""

import torch

__all__ = ["add_gradients"]


def add_gradients(
    network,
    criterion,
    z,
    target,
    *,
    size,
    mixing=(),
    penalty=None,
    objective=None,
    n_batches=1,
):
    """Add the gradients of a batch to those that are there.

    Parameters
    ----------
    network : callable
        From activations to scores.
    criterion : WeightedLoss
    z : torch.Tensor of shape (n, ...)
    target : (y, sample_weight), torch.Tensors of shape (n, ...) and (n,)
    size : int
        Samples that go through the network at a time. The gradients of the parts add
        up to those of the batch.
    mixing : (partner, share) or (), default=()
        See :class:`WeightedLoss`.
    penalty : callable, default=None
        Returns what is added to the loss of the whole batch.
    objective : callable, default=None
        From activations and the rows of the batch that they are to their scores, in
        the place of `network`, and to what is minimised besides the loss. Where the
        batch goes in parts, so does this.
    n_batches : int, default=1
        What gradients are divided by.

    Returns
    -------
    loss : torch.Tensor of shape ()
        Without the objective.
    scores : torch.Tensor of shape (n, n_outputs)
    """
    n, total, scores = len(z), 0.0, []
    for first in range(0, n, size):
        rows = slice(first, first + size)
        if objective is None:
            part, added = network(z[rows]), 0.0
        else:
            part, added = objective(z[rows], rows)
        share = len(part) / n
        loss = criterion(part, target, *mixing, rows=rows) * share
        if penalty is not None and first == 0:
            loss = loss + penalty()
        ((loss + added * share) / n_batches).backward()
        total = total + loss.detach()
        scores.append(part.detach())
    return total, scores[0] if len(scores) == 1 else torch.cat(scores)
