"""Gradients of a batch, at once or in parts that may be computed in parallel."""

from functools import partial

import torch

from sktransfer.activations import is_plain
from sktransfer.compute import n_samples, seeded, take_rows

__all__ = ["PART_SIZE", "add_gradients", "is_divisible"]

# Each part writes gradients of all weights: fewer samples cost nearly as much.
PART_SIZE = 16
# Below so many multiply-adds per batch, parts cost more than they save.
_FEWEST = 50_000_000
_LIBRARIES = ("torch", "timm", "torchvision", "sktransfer")


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
    """Add the gradients of a batch to the present ones.

    Parameters
    ----------
    network : callable
        From activations to scores.
    criterion : WeightedLoss
    z : torch.Tensor of shape (n, ...) or dict of str to torch.Tensor
    target : (y, sample_weight), torch.Tensors of shape (n, ...) and (n,)
    size : int
        Samples that go through the network at a time. The gradients of the parts add
        up to those of the batch, in the order of the parts.
    parameters : list of torch.nn.Parameter, default=None
        Those to compute gradients of; needed with `shards`.
    shards : Shards, default=None
        Workers that call the functions they are given: they compute several parts at a
        time. By default one part is computed after the other.
    mixing : (partner, share) or (), default=()
        See :class:`WeightedLoss`.
    penalty : callable, default=None
        Returns what is added to the loss of the whole batch.
    objective : callable, default=None
        Maps activations and the rows of the batch that they are to their scores, in
        the place of `network`, and to what is minimised besides the loss. It is called
        once per part.
    n_batches : int, default=1
        Gradients are divided by this number.

    Returns
    -------
    loss : torch.Tensor of shape ()
        Without the objective.
    scores : torch.Tensor of shape (n, n_outputs)
    """
    n = n_samples(z)

    def compute(first):
        """Return scores and loss of a part, and what its gradients are of."""
        rows = slice(first, first + size)
        part = take_rows(z, rows)
        if objective is None:
            scores, added = network(part), 0.0
        else:
            scores, added = objective(part, rows)
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
    """Return scores, loss and gradients, which parallel parts must not add up."""
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


def is_divisible(network, z, multiply_adds):
    """Return whether threads may compute parts of a batch with a network.

    This depends on the network alone and not on the number of threads, since the
    gradients of parts are rounded otherwise than those of a batch.

    Parameters
    ----------
    network : Network
        In train mode.
    z : torch.Tensor of shape (n, ...) or dict of str to torch.Tensor
        Some activations, n >= 2.
    multiply_adds : int
        Per batch.

    Returns
    -------
    bool
        False if layers are random, depend on the whole batch or keep statistics of it;
        if some layer is of no known library, as it may keep results in attributes; and
        if there is too little to compute.
    """
    if multiply_adds < _FEWEST or not _is_of_libraries(network):
        return False
    buffers = {name: b.clone() for name, b in network.named_buffers()}
    with seeded(0), torch.no_grad():
        before = torch.get_rng_state()
        whole = network.scores(z)
        drew = not torch.equal(before, torch.get_rng_state())
        alone = network.scores(take_rows(z, slice(1))) if not drew else whole[:1]
    moved = False
    for name, buffer in network.named_buffers():
        if not torch.equal(buffer, buffers[name]):
            moved = True
            buffer.copy_(buffers[name])
    return not (drew or moved) and torch.allclose(alone, whole[:1], 1e-2, 1e-3)


def _is_of_libraries(network):
    return all(
        type(layer).__module__.partition(".")[0] in _LIBRARIES and is_plain(layer)
        for layer in network.modules()
    )
