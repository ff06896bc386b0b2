"""Gradients of a batch, all at once or in parts."""

from functools import partial

import torch

__all__ = ["add_gradients"]


def add_gradients(
    network,
    criterion,
    z,
    target,
    *,
    size,
    parameters=None,
    shards=None,
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
        up to those of the batch, in the order of the parts.
    parameters : list of torch.nn.Parameter, default=None
        Those that gradients are wanted of; needed with `shards`.
    shards : Shards, default=None
        Of workers that call what they are given: computes several parts at a time. By
        default one part comes after the other.
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
    n = len(z)

    def compute(first):
        """Return scores, loss, and what the gradients are of, of a part."""
        rows = slice(first, first + size)
        if objective is None:
            scores, added = network(z[rows]), 0.0
        else:
            scores, added = objective(z[rows], rows)
        share = len(scores) / n
        loss = criterion(scores, target, *mixing, rows=rows) * share
        if penalty is not None and first == 0:
            loss = loss + penalty()
        return scores.detach(), loss.detach(), (loss + added * share) / n_batches

    firsts = range(0, n, size)
    if shards is None:
        found = [_backward(compute(first)) for first in firsts]
    else:
        differentiate = partial(_differentiate, compute, parameters)
        parts = shards.map([partial(differentiate, first) for first in firsts])
        found = [part[:2] for part in parts]
        for _, _, gradients in parts:
            _add(parameters, gradients)
    scores, losses = zip(*found, strict=True)
    return sum(losses), scores[0] if len(scores) == 1 else torch.cat(scores)


def _backward(part):
    scores, loss, minimised = part
    minimised.backward()
    return scores, loss


def _differentiate(compute, parameters, first):
    """Return scores, loss and gradients; threads leave the parameters' own alone."""
    scores, loss, minimised = compute(first)
    gradients = torch.autograd.grad(minimised, parameters, allow_unused=True)
    return scores, loss, gradients


def _add(parameters, gradients):
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = gradient
        else:
            parameter.grad += gradient
