"""Which stages are trained in bfloat16."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from sktransfer.backbones import Backbone
from sktransfer.compute import gains_by_bfloat16
from sktransfer.utils import get_config

# Multiply-adds per batch below which the conversions cost more than they save.
_FEWEST = 50_000_000
_LINEAR_SHARE = 0.9  # of the weights of linear layers and convolutions


def training_precision(device: torch.device) -> str:
    """Return the precision of training that settings and a device permit."""
    gains = get_config()["precision"] == "auto" and gains_by_bfloat16(device)
    return "bfloat16" if gains else "float32"


def trains_in_bfloat16(
    backbone: Backbone,
    start: str,
    stop: str,
    suffix: nn.Module,
    batch_size: int,
    device: torch.device,
) -> bool:
    """Return whether the stages between two boundaries are trained in bfloat16.

    That is so for transformers, where settings and the device permit it. Nearly all of
    their weights are those of linear layers, which are applied to sequences.
    Convolutions gain little, and with groups their gradients are slower; vectors are
    of few numbers, whose digits count; and small networks are converted for longer than
    they are computed. `suffix` holds the layers of these stages.
    """
    shape = backbone.activation_shape(start)
    is_vector = not isinstance(shape, dict) and len(shape) < 2
    work = batch_size * backbone.multiply_adds(start, stop)
    if is_vector or work < _FEWEST or training_precision(device) != "bfloat16":
        return False
    layers = [*suffix.modules()]
    convolutions = [m for m in layers if isinstance(m, nn.modules.conv._ConvNd)]
    if any(layer.groups > 1 for layer in convolutions):
        return False
    linear = [m for m in layers if isinstance(m, nn.Linear | nn.MultiheadAttention)]
    n_linear, n_others = _count(linear), _count(convolutions)
    return n_linear > 0 and n_linear >= _LINEAR_SHARE * (n_linear + n_others)


def _count(layers: Iterable[nn.Module]) -> int:
    return sum(p.numel() for layer in layers for p in layer.parameters(recurse=False))
