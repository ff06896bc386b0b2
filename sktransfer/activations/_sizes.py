"""How many samples, and how many positions of sequences, are computed at a time."""

from itertools import chain
from typing import Any

import torch

from sktransfer.activations._targets import MASK
from sktransfer.backbones import Backbone
from sktransfer.compute import resolve_batch_size

# One thread multiplies matrices of this many rows about as fast as larger ones, and the
# last batch of each length is filled up: with more, that would be most of the work
# where there are few samples of a length.
_POSITIONS_ON_CPU = 256


def forward_sizes(
    backbone: Backbone, batch_size: int | str, device: torch.device
) -> dict[str, Any]:
    """Return `batch_size` and `most_positions` of a :class:`Runtime`.

    With "auto", positions are limited on a CPU, if the stages keep the length of
    sequences: the limit has to be the same at the input and at every boundary.
    """
    size = resolve_batch_size(batch_size, device, backbone.largest_activation_bytes)
    limits = batch_size == "auto" and device.type == "cpu" and _keeps_length(backbone)
    return {
        "batch_size": size,
        "most_positions": _POSITIONS_ON_CPU if limits else None,
    }


def _keeps_length(backbone):
    """Return whether samples are sequences, as long at every stage as at the input."""
    names, lengths = backbone.stage_names, set()
    first = [backbone.preprocessing.input_shape]
    for shape in chain(first, map(backbone.activation_shape, names)):
        if not isinstance(shape, dict) or MASK not in shape:
            return False
        lengths.add(shape[MASK])
    return len(lengths) == 1
