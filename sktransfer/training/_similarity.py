"""How much samples differ from those of the pretraining, by BatchNorm's statistics."""

import copy
from collections.abc import Generator, Mapping
from contextlib import closing
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from sktransfer.activations import digest_samples
from sktransfer.backbones import Backbone
from sktransfer.compute import RandomStream, fixed_threads, map_state
from sktransfer.inputs import as_run, iter_batches, preprocessing_key

_BATCH = 16
# The divergence at which the similarity is 1/e. That of photographs is 0.04 to 0.06 in
# EfficientNet-Lite0, of drawings 0.12 to 0.16, of digits 0.4 and of noise 0.7: see the
# user guide.
_SCALE = 0.2
_FLOOR = 1e-12  # of the variances of channels that never vary
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_N_SAMPLES = 32
_FEWEST_VALUES = 30  # per channel, for its variance to be known
# Learning rates of the backbone relative to the head's. Digits and pictures of clothes
# at 64 pixels (similarities of 0.2 and 0.4) gain by the high one; photographs and
# cartoons at 96 pixels or more (0.56 and above) may end below the probe by more than
# the low one.
_DIFFERENT = 0.42
_HIGH, _LOW = 0.5, 0.2
_chosen: dict[tuple, float] = {}  # by network and samples, as folds and candidates ask
_MOST_CHOSEN = 1_000


def choose_lr_ratio(backbone: Backbone, samples: Any, device: torch.device) -> float:
    """Choose the learning rate of the last stage relative to that of the head.

    It is high for samples that differ much from those of the pretraining, and low for
    others and where the similarity is not known: without BatchNorm, with random weights
    or with few values per channel.
    """
    has_random_weights = backbone.provider is not None and backbone.weights is None
    if has_random_weights or not len(samples):  # without samples, the training raises
        return _LOW
    if not any(_batch_norms(backbone).values()):
        return _LOW
    rows = np.unique(np.linspace(0, len(samples) - 1, _N_SAMPLES).astype(int))
    few = samples.take(rows)
    way, _ = preprocessing_key(backbone.preprocessing)
    key = backbone.fingerprint, way, *digest_samples(few)
    if key not in _chosen:
        divergences, _ = run_network(backbone, few, device, has_classifier=False)
        is_different = similarity_from(divergences) < _DIFFERENT
        if len(_chosen) >= _MOST_CHOSEN:
            _chosen.clear()
        _chosen[key] = _HIGH if is_different else _LOW
    return _chosen[key]


def similarity_from(divergences: Mapping[str, list]) -> float:
    """Return the similarity in [0, 1], or NaN without BatchNorm layers."""
    every = [d for of_stage in divergences.values() for d in of_stage]
    return float(np.exp(-np.mean(every) / _SCALE)) if every else np.nan


def model_inputs(
    samples, preprocessing, batch_size: int, device: torch.device
) -> Generator[torch.Tensor]:
    """Yield batches of model inputs on a device."""
    run = as_run(preprocessing)
    with closing(iter_batches(samples, preprocessing, batch_size)) as batches:
        for _, batch in batches:
            yield run.to_input(map_state(lambda z: z.to(device), batch))


def run_network(
    backbone: Backbone, samples: Any, device: torch.device, *, has_classifier: bool
) -> tuple[dict[str, list], np.ndarray | None]:
    """Pass samples through a copy of the network.

    Returns a list of divergences of the BatchNorm layers per stage, and the scores of
    the pretrained classifier (n, n_classes) or None.
    """
    layers = _batch_norms(backbone)
    if not has_classifier and not any(layers.values()):
        return layers, None
    module = copy.deepcopy(backbone.module).eval().to(device)
    modules = dict(module.named_modules())
    moments = {path: ChannelMoments() for paths in layers.values() for path in paths}
    for path, of_layer in moments.items():
        modules[path].register_forward_pre_hook(_hook(of_layer), with_kwargs=True)
    batch_size = 1 if backbone.impurity else _BATCH
    stream, outputs = RandomStream(0, device), []
    for x in model_inputs(samples, backbone.preprocessing, batch_size, device):
        with torch.inference_mode(), fixed_threads(), stream.active():
            out = module(x)
        if has_classifier:
            outputs.append(out.float().cpu().numpy())
    found = {
        name: [
            _divergence(moments[path], modules[path])
            for path in paths
            if moments[path].n >= _FEWEST_VALUES
        ]
        for name, paths in layers.items()
    }
    return found, np.concatenate(outputs) if has_classifier else None


def _batch_norms(backbone):
    """Return the paths of the BatchNorm layers with statistics, per stage."""
    tracked = {
        path
        for path, layer in backbone.module.named_modules()
        if isinstance(layer, _BATCH_NORMS) and layer.running_mean is not None
    }
    found = {}
    for start, stop in pairwise(["input", *backbone.stage_names]):
        section = backbone.section(start, stop)
        found[stop] = [p for p, _ in section.named_modules() if p in tracked]
    return found


class ChannelMoments:
    """Mean and variance per channel of all batches so far, in float64 on the CPU."""

    def __init__(self) -> None:
        self.n = 0  # values per channel
        self._total: Any = 0.0
        self._squares: Any = 0.0

    def add(self, x: torch.Tensor) -> None:
        """Add a batch of shape (n, c, ...)."""
        x = x.detach()
        x = (x.cpu() if x.device.type == "mps" else x).double()  # MPS has no float64
        axes = [0, *range(2, x.ndim)]
        self.n += x.numel() // x.shape[1]
        self._total = self._total + x.sum(axes).cpu()
        self._squares = self._squares + x.square().sum(axes).cpu()

    def mean_and_var(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the means and the variances (c,)."""
        mean = self._total / self.n
        return mean, (self._squares / self.n - mean**2).clamp_min(0)


def _hook(moments):
    """Return a hook that adds what a layer is called with."""

    def add(layer, args, kwargs):
        moments.add(args[0] if args else kwargs["input"])

    return add


def _divergence(moments, layer):
    """Return the divergence from the statistics of a layer, a median over channels."""
    mean, variance = moments.mean_and_var()
    variance = variance.clamp_min(_FLOOR)
    known = layer.running_var.cpu().double().clamp_min(_FLOOR)
    away = (mean - layer.running_mean.cpu().double()).square() / known
    ratio = variance / known
    return float(((ratio + away - 1 - ratio.log()) / 2).median())
