"""The network above the boundary, and what its scores mean."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from sktransfer.compute import (
    channels_last,
    fixed_threads,
    halving,
    map_state,
    split_state,
)


class Network(nn.Module):
    """Trained part of a network, from activations at the boundary to scores.

    `suffix` holds the stages above the boundary or is an identity, `pool` reduces each
    sample to a vector, `head` maps vectors to scores, and `augment` changes activations
    at random in train mode. `impurity` says why the output of the trained head for a
    sample is no function of that sample alone, or is None.
    """

    impurity: str | None = None

    def __init__(
        self,
        suffix: nn.Module,
        pool: nn.Module,
        head: nn.Module | None = None,
        augment: nn.Module | None = None,
    ):
        super().__init__()
        self.augment = nn.Identity() if augment is None else augment
        self.suffix = suffix
        self.pool = pool
        self.head: Any = head  # None until it is made

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Compute scores (n, n_outputs) from activations (n, ...)."""
        return self.scores(self.augment(z))

    def scores(self, z: torch.Tensor, *, in_bfloat16: bool = False) -> torch.Tensor:
        """Compute scores from activations that are already augmented."""
        return self.head(self.describe(z, in_bfloat16=in_bfloat16))

    def describe(self, z: torch.Tensor, *, in_bfloat16: bool = False) -> torch.Tensor:
        """Compute the inputs of the head (n, d), with `in_bfloat16` mostly in that."""
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16):
            z = self.suffix(map_state(channels_last, z))
        return self.pool(map_state(_as_float32, z) if in_bfloat16 else z)

    def features(self, activations, batch_size: int) -> torch.Tensor:
        """Compute the inputs of the head (n, d) in batches, in eval mode.

        Activations and features are on the CPU, and have no gradients.
        """
        was_training = self.suffix.training
        self.suffix.eval()
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        size, parts = batch_size, []

        def compute(z, size):
            moved = (
                map_state(lambda t: t.to(device), part) for part in split_state(z, size)
            )
            return [self.describe(part).cpu() for part in moved]

        for z in split_state(activations, batch_size):
            with torch.no_grad(), fixed_threads():
                described, size = halving(partial(compute, z), size, device)
            parts += described
        self.suffix.train(was_training)
        return torch.cat(parts)


def _as_float32(z):
    return z.float() if z.is_floating_point() else z


class Probabilities:
    """Convert scores to probabilities, and these to predictions.

    With `multilabel`, each label has its own probability; otherwise those of the
    classes sum to one.
    """

    def __init__(self, multilabel: bool = False):
        self.multilabel = multilabel

    def __call__(self, scores: torch.Tensor) -> torch.Tensor:
        """Return probabilities of the shape of scores, (n, n_outputs)."""
        return torch.sigmoid(scores) if self.multilabel else torch.softmax(scores, 1)

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the most probable class (n,), or 0 and 1 per label (n, n_outputs)."""
        if self.multilabel:
            return (probabilities > 0.5).astype(int)
        return probabilities.argmax(axis=1)


def head_from_linear(linear: nn.Module, dropout: float = 0.0) -> nn.Module:
    """Put dropout before a layer, as :func:`make_head` does, unless it is 0."""
    return nn.Sequential(nn.Dropout(dropout), linear) if dropout else linear
