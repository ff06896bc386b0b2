"""Gradients of a batch, as a whole or in parts, which threads compute in parallel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sktransfer.activations import MASK, is_plain
from sktransfer.compute import Shards, n_samples, seeded, take_rows
from sktransfer.training._loss import WeightedLoss
from sktransfer.utils import NETWORK_LIBRARIES

# Each part writes the gradients of all weights: smaller parts would hardly be faster.
PART_SIZE = 16
# With fewer multiply-adds per batch, parts cost more time than they save.
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
    n_total: int | None = None,
    most_positions: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the gradients of a batch, divided by `n_batches`; return its loss and scores.

    If the batch is a share of a larger one, of `n_total` samples, its loss is its part
    of the mean over that one.

    The batch is computed in parts of at most `size` samples, whose gradients are added
    in the order of the parts. With `shards`, several parts are computed in parallel,
    and the gradients are those of `parameters`. With `most_positions`, a part has
    sequences of similar lengths, and is not padded beyond the longest of them.

    `network` maps activations to scores; `target` and `mixing` are arguments of
    :class:`WeightedLoss`; `penalty` returns a term of the loss of the whole batch.
    `objective` is called once per part in place of the network: it maps activations and
    their rows in the batch to scores and to a term that is minimised in addition and is
    not part of the returned loss.
    """
    n, parts = n_total or n_samples(z), _parts_of(z, size, most_positions)

    def compute(number):
        """Return the scores and the loss of a part, and the value to differentiate."""
        rows = parts[number]
        part = take_rows(z, rows) if most_positions is None else _cut(z, rows)
        if objective is None:
            scores, added = network(part), 0.0
        else:
            scores, added = objective(part, rows)
        share = len(scores) / n
        loss = criterion(scores, target, *mixing, rows=rows) * share
        if penalty is not None and number == 0:
            loss = loss + penalty()
        return scores.detach(), loss.detach(), (loss + added * share) / n_batches

    if shards is None:
        found = [_backward(compute(number)) for number in range(len(parts))]
    else:
        differentiate = partial(_differentiate, compute, parameters)
        done = shards.map([partial(differentiate, i) for i in range(len(parts))])
        found = [part[:2] for part in done]
        for _, _, gradients in done:
            _add(parameters, gradients)
    scores, losses = zip(*found, strict=True)
    return sum(losses), _in_order(scores, parts)


def _parts_of(z, size, most_positions):
    """Return the rows of each part, slices or tensors of indices.

    With `most_positions`, rows are sorted by length, and a part has at most so many
    positions, or one row.
    """
    if most_positions is None or not isinstance(z, dict):
        return [slice(first, first + size) for first in range(0, n_samples(z), size)]
    lengths, parts = _lengths(z), [[]]
    n_windows = z[MASK].shape[1:-1].numel()  # 1 where texts have none
    for row in lengths.argsort(stable=True).tolist():
        n = len(parts[-1])
        if n == size or (n and (n + 1) * n_windows * lengths[row] > most_positions):
            parts.append([])
        parts[-1].append(row)
    return [torch.tensor(rows) for rows in parts]


def _lengths(z):
    """Return the numbers of positions up to the last valid one of sequences (n,)."""
    mask = z[MASK].cpu()  # (n, t), or (n, w, t) in windows
    ends = (mask * torch.arange(1, 1 + mask.shape[-1])).amax(-1)
    return ends.reshape(len(mask), -1).amax(1).clamp_min(1)


def _cut(z, rows):
    """Return some rows of a batch, without the padding behind the longest of them."""
    part = take_rows(z, rows)
    if not isinstance(z, dict):
        return part
    axis, end = z[MASK].ndim - 1, int(_lengths(part).max())
    return {name: values.narrow(axis, 0, end) for name, values in part.items()}


def _in_order(scores, parts):
    """Join the scores of parts in the order of the batch."""
    joined = scores[0] if len(scores) == 1 else torch.cat(scores)
    if isinstance(parts[0], slice):
        return joined
    return joined[torch.cat(parts).argsort()]


def _backward(part):
    scores, loss, minimised = part
    minimised.backward()
    return scores, loss


def _differentiate(compute, parameters, first):
    """Return scores, loss and gradients of a part, without adding to ``.grad``."""
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

    They may not if a layer is random, depends on the whole batch or keeps its
    statistics; if a layer is from an unknown library, since it may keep results in
    attributes; or if the `multiply_adds` of a batch are too few. `z` holds two or more
    activations. The result does not depend on the number of threads, because parts and
    whole batches are rounded differently.
    """
    if multiply_adds < _FEWEST or not _is_of_libraries(network):
        return False
    is_random, mixes = _dependence(network, z)
    return not (is_random or mixes)


def mixes_samples(network, z: torch.Tensor) -> bool:
    """Return whether scores in train mode depend on the other samples of a batch.

    So it is if a layer keeps statistics. Of networks that are random, only BatchNorm is
    known to. `z` holds two or more activations.
    """
    return _dependence(network, z)[1]


def _dependence(network, z):
    """Return whether scores are random, and whether they depend on other samples."""
    buffers = {name: b.clone() for name, b in network.named_buffers()}
    with seeded(0), torch.no_grad():
        before = torch.get_rng_state()
        whole = network.scores(z)
        drew = not torch.equal(before, torch.get_rng_state())
        if _restore(network, buffers) or uses_batch_norm(network):
            return drew, True  # batch normalization may not take a single sample
        if drew:
            return True, False
        alone = network.scores(take_rows(z, slice(1)))
    return False, not torch.allclose(alone, whole[:1], 1e-2, 1e-3)


def uses_batch_norm(network: nn.Module) -> bool:
    """Return whether a layer of BatchNorm is in train mode."""
    norms = (m for m in network.modules() if isinstance(m, _BatchNorm))
    return any(norm.training for norm in norms)


def _restore(network, buffers):
    """Restore the values of buffers; return whether any of them had changed."""
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
