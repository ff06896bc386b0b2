"""Statistics of BatchNorm that take one domain to where another one was."""

from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

__all__ = [
    "SourceStatistics",
    "find_batch_norms",
    "fit_statistics",
    "source_statistics",
]

_LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SourceStatistics(NamedTuple):
    """What a BatchNorm layer has in the source domain.

    Attributes
    ----------
    mean, var : torch.Tensor of shape (c,), float64
        Of what comes in.
    running_mean, running_var : torch.Tensor of shape (c,)
        What it is normalised by.
    """

    mean: torch.Tensor
    var: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor


class _Moments:
    """Mean and variance of each channel over all that has come so far."""

    def __init__(self):
        self.n, self.total, self.squares = 0, 0.0, 0.0

    def add(self, x):
        x = x.detach().double()
        axes = [0, *range(2, x.ndim)]
        self.n += x.numel() // x.shape[1]
        self.total = self.total + x.sum(axes)
        self.squares = self.squares + x.square().sum(axes)

    def mean_and_var(self):
        mean = self.total / self.n
        return mean, (self.squares / self.n - mean**2).clamp_min(0)


def find_batch_norms(module):
    """Find the BatchNorm layers that keep running statistics.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    dict of str to torch.nn.Module
        By name.
    """
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, _LAYERS) and layer.running_mean is not None
    }


def source_statistics(network, activations, batch_size):
    """Measure what comes into the BatchNorm layers of a network.

    Parameters
    ----------
    network : Network
        In eval mode.
    activations : Activations
        Of the source domain.
    batch_size : int

    Returns
    -------
    dict of str to SourceStatistics
        By the names of the layers.
    """
    layers = find_batch_norms(network)
    moments = {name: _Moments() for name in layers}

    def look(name, layer, x):
        moments[name].add(x)

    with _looking(layers, look):
        network.features(activations, batch_size)
    return {
        name: SourceStatistics(
            *moments[name].mean_and_var(),
            layer.running_mean.clone(),
            layer.running_var.clone(),
        )
        for name, layer in layers.items()
    }


def fit_statistics(network, activations, batch_size, source):
    """Normalise a target domain to where the source domain was.

    Each channel gets the running statistics with which what comes out of the
    normalisation has the same mean and variance in the target as it had in the source.
    Where the source was normalised by its own statistics, these are the target's own,
    as in the paper; where it was normalised by those of the pretraining, the weights go
    on seeing what they were trained on. Domains that are equal change nothing.

    Parameters
    ----------
    network : Network
        In eval mode. Its statistics are changed in place, layer by layer in one pass.
    activations : Activations
        Of the target domain.
    batch_size : int
    source : dict of str to SourceStatistics

    References
    ----------
    Y. Li et al. (2016). Revisiting Batch Normalization For Practical Domain Adaptation.
    https://arxiv.org/abs/1603.04779
    """
    layers = find_batch_norms(network)
    moments = {name: _Moments() for name in layers}

    def look(name, layer, x):
        moments[name].add(x)
        _align(layer, *moments[name].mean_and_var(), source[name])

    with _looking(layers, look):
        network.features(activations, batch_size)


def _align(layer, mean, var, source):
    """Set the running statistics so that the output has the source's moments."""
    before = source.running_var.to(var) + layer.eps
    ratio = torch.where(source.var.to(var) > 0, var / source.var.to(var), 1.0)
    new_var = (before * ratio - layer.eps).clamp_min(0)
    scale = ((new_var + layer.eps) / before).sqrt()
    shift = scale * (source.mean.to(var) - source.running_mean.to(var))
    layer.running_mean.copy_(mean - shift)
    layer.running_var.copy_(new_var)


@contextmanager
def _looking(layers, look):
    """Let a function see what comes into some layers."""
    handles = [
        layer.register_forward_pre_hook(
            lambda layer, args, name=name: look(name, layer, args[0])
        )
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
