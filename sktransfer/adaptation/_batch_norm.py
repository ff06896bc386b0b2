"""Statistics of BatchNorm that take one domain to where another one was."""

from contextlib import contextmanager

import torch
from torch import nn

from sktransfer.backbones import Section

__all__ = [
    "find_batch_norms",
    "fit_statistics",
    "put_back_statistics",
    "source_statistics",
]

_LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Moments:
    """Mean and variance of each channel over all that has come so far."""

    def __init__(self):
        self.n, self.total, self.squares = 0, 0.0, 0.0

    def add(self, x):
        x = x.detach()
        x = (x.cpu() if x.device.type == "mps" else x).double()  # which has no float64
        axes = [0, *range(2, x.ndim)]
        self.n += x.numel() // x.shape[1]
        self.total = self.total + x.sum(axes).cpu()
        self.squares = self.squares + x.square().sum(axes).cpu()

    def mean_and_var(self):
        mean = self.total / self.n
        return mean, (self.squares / self.n - mean**2).clamp_min(0)


def find_batch_norms(module):
    """Find the BatchNorm layers whose running statistics may be changed.

    Those that the frozen stages before a section use as well are left out.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    dict of str to torch.nn.Module
        By name.
    """
    sections = [m for m in module.modules() if isinstance(m, Section)]
    shared = {layer for section in sections for layer in section.shared_layers()}
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, _LAYERS)
        and layer.running_mean is not None
        and layer not in shared
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
    dict of str to dict of str to ndarray of shape (c,), float64
        By the names of the layers, in the order in which samples go through them:
        "mean" and "var" of what comes in, and "running_mean" and "running_var", which
        it is normalised by.
    """
    layers = find_batch_norms(network)
    moments = _measure(network, layers, activations, batch_size)
    return {name: _describe(layers[name], seen) for name, seen in moments.items()}


def put_back_statistics(network, source):
    """Let BatchNorm normalise as it did in the source domain.

    Parameters
    ----------
    network : Network
        Its statistics are changed in place.
    source : dict
        From :func:`source_statistics`.
    """
    layers = find_batch_norms(network)
    for name, kept in source.items():
        for key in ("running_mean", "running_var"):
            getattr(layers[name], key).copy_(torch.from_numpy(kept[key]).float())


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
        In eval mode. Its statistics are changed in place, layer by layer: each has a
        pass of its own, in which those before it have changed already.
    activations : Activations
        Of the target domain.
    batch_size : int
    source : dict
        From :func:`source_statistics`.

    References
    ----------
    Y. Li et al. (2016). Revisiting Batch Normalization For Practical Domain Adaptation.
    https://arxiv.org/abs/1603.04779
    """
    layers = find_batch_norms(network)
    for name, of_source in source.items():
        layer = layers[name]
        moments = _measure(network, {name: layer}, activations, batch_size)
        _align(layer, *moments[name].mean_and_var(), of_source)


def _measure(network, layers, activations, batch_size):
    """Return the moments of what comes into layers, in the order of execution."""
    moments = {}

    def look(name, x):
        moments.setdefault(name, _Moments()).add(x)

    with _looking(layers, look):
        network.features(activations, batch_size)
    return moments


def _describe(layer, moments):
    mean, var = moments.mean_and_var()
    kept = {"running_mean": layer.running_mean, "running_var": layer.running_var}
    kept = {"mean": mean, "var": var, **kept}
    return {key: value.cpu().double().numpy() for key, value in kept.items()}


def _align(layer, mean, var, source):
    """Set the running statistics so that the output has the source's moments."""
    source = {key: torch.from_numpy(value) for key, value in source.items()}
    before = source["running_var"] + layer.eps
    ratio = torch.where(source["var"] > 0, var / source["var"], 1.0)
    new_var = (before * ratio - layer.eps).clamp_min(0)
    scale = ((new_var + layer.eps) / before).sqrt()
    shift = scale * (source["mean"] - source["running_mean"])
    layer.running_mean.copy_((mean - shift).float())
    layer.running_var.copy_(new_var.float())


@contextmanager
def _looking(layers, look):
    """Let a function see what comes into some layers."""
    handles = [
        layer.register_forward_pre_hook(
            lambda layer, args, name=name: look(name, args[0])
        )
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
