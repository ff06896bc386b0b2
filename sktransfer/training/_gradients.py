"""Gradients of a batch, as a whole or in parts that threads compute in parallel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from sktransfer.activations import is_plain
from sktransfer.compute import Shards, n_samples, seeded, take_rows
from sktransfer.training._loss import WeightedLoss
from sktransfer.utils import NETWORK_LIBRARIES

# Each part writes gradients of all weights: fewer samples cost nearly as much.
PART_SIZE = 16
# Below so many multiply-adds per batch, parts cost more than they save.
_FEWEST = 50_000_000
_LIBRARIES = (*NETWORK_LIBRARIES, "sktransfer")


def add_gradients(
    network: Callable,
    criterion: WeightedLoss,
    z: torch.Tensor,
    target: tuple[torch.Tensor, torch.Tensor],
    *,
    size: int,
    parameters: list[nn.Parameter] | None = None,
    shards: Shards | None = None,
    mixing: Sequence[torch.Tensor] = (),
    penalty: Callable | None = None,
    objective: Callable | None = None,
    n_batches: int = 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the gradients of a batch to the present ones; returns loss and scores.

    At most `size` samples go through the network, which maps activations to scores, at
    a time. The gradients of these parts add up to those of the batch, in the order of
    the parts; with `shards`, several parts are computed at a time, and gradients are of
    `parameters`. They are divided by `n_batches`.

    Target and mixing are what :class:`WeightedLoss` takes. `penalty` returns what is
    added to the loss of the whole batch. `objective`, called once per part in place of
    the network, maps activations and their rows in the batch to scores and to what is
    minimised in addition, which is not in the returned loss.
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


def is_divisible(network, z: torch.Tensor, multiply_adds: int) -> bool:
    """Return whether threads may compute parts of a batch with a network.

    False if layers are random, depend on the whole batch or keep statistics of it; if a
    layer is of an unknown library, since it may keep results in attributes; and if
    `multiply_adds`, those of a batch, are too few. `z` holds two or more activations.
    The answer does not depend on the number of threads, since parts are rounded
    differently from whole batches.
    """
    if multiply_adds < _FEWEST or not _is_of_libraries(network):
        return False
    buffers = {name: b.clone() for name, b in network.named_buffers()}
    with seeded(0), torch.no_grad():
        before = torch.get_rng_state()
        whole = network.scores(z)
        drew = not torch.equal(before, torch.get_rng_state())
        if _restore(network, buffers) or drew:
            return False  # batch normalization may not take a single sample
        alone = network.scores(take_rows(z, slice(1)))
    return torch.allclose(alone, whole[:1], 1e-2, 1e-3)


def _restore(network, buffers):
    """Set buffers to what they were; return whether any of them had moved (bool)."""
    moved = False
    for name, buffer in network.named_buffers():
        if not torch.equal(buffer, buffers[name]):
            moved = True
            buffer.copy_(buffers[name])
    return moved


def _is_of_libraries(network):
    return all(
        type(layer).__module__.partition(".")[0] in _LIBRARIES and is_plain(layer)
        for layer in network.modules()
    )
