"""What the processes of one fit must have in common."""

from __future__ import annotations

import hashlib

from torch import nn

from sktransfer.activations import digest
from sktransfer.compute import Ranks
from sktransfer.fitting._checkpoints import describe_data
from sktransfer.training import FitSamples, LabelledSamples, mixes_samples
from sktransfer.utils import update_with_tensor


def check_samples(ranks: Ranks, samples: FitSamples) -> None:
    """Raise a ValueError if other processes have other samples, targets or weights."""
    if ranks.n == 1:
        return
    train, validation, _ = samples
    ranks.check_equal(
        digest(*_describe(train), "validation", *_describe(validation)),
        f"The {ranks.n} processes of this fit have different samples, targets or "
        "weights. Each of them needs all samples, of which it takes its share: read "
        "the same files in all, and shuffle and split them with a `random_state`.",
    )


def _describe(data: LabelledSamples | None) -> list:
    if data is None:
        return []
    return describe_data(data.samples.digests, data.y, data.weight)


def check_weights(ranks: Ranks, network: nn.Module) -> None:
    """Raise a ValueError if other processes have trained another network."""
    if ranks.n == 1:
        return
    state = hashlib.sha256()
    for tensor in network.state_dict().values():
        update_with_tensor(state, tensor)
    ranks.check_equal(
        state.digest(),
        f"The {ranks.n} processes of this fit have trained different weights. A "
        "callback, a loss or a layer depends on the process: let it draw from torch's "
        "generators alone, and change weights in all processes alike.",
    )


def check_divisible(ranks: Ranks, network: nn.Module, z) -> None:
    """Raise a ValueError if several processes cannot share the batches of a network.

    The network is in train mode, and `z` holds two or more activations.
    """
    if ranks.n > 1 and mixes_samples(network, z):
        raise ValueError(
            "`device='accelerate'` divides each batch among processes, but the scores "
            "of this network depend on the whole batch, as those of BatchNorm do in "
            "train mode. Set `training__batch_norm='eval'`, take a `head` without "
            "BatchNorm, or train in one process."
        )
