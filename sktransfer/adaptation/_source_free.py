"""Methods that adapt a trained network without the source: AdaBN and SHOT."""

from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import nn
from torch.nn import functional as F

from sktransfer.activations import Activations
from sktransfer.adaptation._self_training import entropy
from sktransfer.backbones import Section
from sktransfer.compute import fixed_threads
from sktransfer.training import (
    AdaptationContext,
    AdaptationMethod,
    AdaptationResult,
    Data,
    Network,
    Objective,
    cross_entropy,
)

Statistics = dict[str, dict[str, np.ndarray]]  # by layer, and by name
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_PSEUDO_LABELS = 0.3  # weight of the pseudo labels beside the information, as published


class AdaBN(AdaptationMethod):
    """Adaptive batch normalisation: statistics that move the target to the source.

    Each channel gets the running statistics with which the output of the normalisation
    has the same mean and variance on the target as it had on the source. Where the
    source was normalised by its own statistics, these are the target's own, as
    published. Where it was normalised by those of the pretraining, the weights keep
    receiving inputs as in their training. Nothing is trained, and equal domains change
    nothing. Adapting again starts from the source each time.

    See Also
    --------
    SHOT : Trains stages on the target.

    References
    ----------
    Y. Li et al. (2016). Revisiting Batch Normalization For Practical Domain Adaptation.
    https://arxiv.org/abs/1603.04779
    """

    name = "adabn"
    needs_source = False
    needs_stages = True

    def __init__(self) -> None:
        super().__init__()

    def can_adapt(self, suffix: nn.Module) -> bool:
        """Return whether there are BatchNorm layers to change."""
        return bool(find_batch_norms(suffix))

    def before_training(self, context: AdaptationContext) -> None:
        """Raise if there are no BatchNorm layers to change."""
        if not find_batch_norms(context.network):
            raise ValueError(
                "`method='adabn'` needs BatchNorm layers in the stages that are "
                f"trained. Got {context.backbone_name} above {context.boundary!r}, "
                "which has none: freeze fewer stages, or take another method."
            )

    def after_training(self, context: AdaptationContext) -> AdaptationResult:
        """Measure the source, if it is given, and align the target with it."""
        network, state = context.network, context.state
        if context.source is not None:
            state = source_statistics(network, context.source, context.batch_size)
        if context.target is None:
            return AdaptationResult(state)
        if state is None:
            raise ValueError(
                "`method='adabn'` needs the statistics of BatchNorm on the source, "
                "which are measured in `fit` with that method. Fit again."
            )
        n_distinct = len({*context.target_digests})
        if n_distinct < 2:
            raise ValueError(
                "`method='adabn'` measures how target samples vary, so there must be "
                f"two or more that differ. Got {len(context.target)}, of which "
                f"{n_distinct} differ: give more samples of the target, or take "
                "another method."
            )
        fit_statistics(network, context.target, context.batch_size, state)
        return AdaptationResult(state)


class SHOT(AdaptationMethod):
    """Source hypothesis transfer: train the stages on the target under a fixed head.

    After the training on the source, the trained stages are trained on the target until
    the predictions are certain, diverse, and agree with the nearest centroid of the
    classes. Adapting again continues from the current weights.

    Parameters
    ----------
    weight : float, default=1.0
        Factor of the losses.

    See Also
    --------
    AdaBN : Trains nothing.

    References
    ----------
    J. Liang et al. (2020). Do We Really Need to Access the Source Data? Source
    Hypothesis Transfer for Unsupervised Domain Adaptation.
    https://arxiv.org/abs/2002.08546
    """

    name = "shot"
    needs_source = False
    needs_stages = True
    needs_classes = True

    def after_training(self, context: AdaptationContext) -> AdaptationResult | None:
        """Train the stages on the target, if it is given."""
        if context.target is None:
            return None
        network, n_samples = context.network, len(context.target)
        labels = torch.zeros(n_samples, dtype=torch.int64)
        labelling = _CentroidLabels(context.target, labels, context.batch_size)
        network.head.requires_grad_(False)
        try:
            net = context.train(
                Data(context.target_views, labels, np.ones(n_samples)),
                loss=partial(_scaled, factor=_PSEUDO_LABELS * self.weight),
                objective=Objective(_information, weight=self.weight),
                callbacks=[labelling],
            )
        finally:
            network.head.requires_grad_(True)
        return AdaptationResult(net=net)


def _scaled(scores, y, factor):
    return factor * cross_entropy(scores, y)


def _information(batch, _, progress):
    return information_loss(batch.scores)


def information_loss(scores: torch.Tensor) -> torch.Tensor:
    """Mean entropy minus the entropy of the mean prediction, of logits (n, k).

    It lies between ``-log(k)``, for certain predictions of all classes in equal shares,
    and 0.
    """
    mean = torch.softmax(scores, 1).mean(0)  # (k,)
    return entropy(scores).mean() + torch.xlogy(mean, mean).sum()


def centroid_labels(
    features: torch.Tensor, scores: torch.Tensor, n_rounds: int = 1
) -> torch.Tensor:
    """Label samples by the nearest centroid of the classes, as int64 (n,).

    Centroids are first the means of the features (n, d) weighted by the probabilities
    of the logits (n, k), then, `n_rounds` times, those of the samples nearest to each
    centroid. Distances are cosines, of features with an appended entry of one. A class
    that no sample is nearest to is left out of the next round.
    """
    features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1)
    features = F.normalize(features)  # (n, d + 1)
    shares, n_classes = torch.softmax(scores, 1), scores.shape[1]
    for _ in range(n_rounds + 1):
        centroids = F.normalize(shares.T @ features)  # (k, d + 1)
        cosines = features @ centroids.T  # (n, k)
        cosines = cosines.masked_fill(shares.sum(0) == 0, -2.0)
        labels = cosines.argmax(1)
        shares = F.one_hot(labels, n_classes).to(features)
    return labels


class _CentroidLabels(Callback):
    """Relabel the samples by centroids before each epoch, writing to `labels`."""

    def __init__(self, activations, labels, batch_size):
        self.activations = activations
        self.labels = labels
        self.batch_size = batch_size

    def __sklearn_clone__(self):
        return self  # a copy would write to other labels than those trained on

    def on_epoch_begin(self, net, **kwargs):
        network = net.module_.eval()
        features = network.features(self.activations, self.batch_size)
        with torch.no_grad(), fixed_threads():
            device = next(network.parameters()).device
            scores = network.head(features.to(device)).cpu()
        self.labels.copy_(centroid_labels(features, scores))

    def on_train_end(self, net, **kwargs):
        self.activations = None  # the net outlives the training, and would hold them


# Statistics of BatchNorm


class _Moments:
    """Mean and variance per channel of all batches so far, in float64."""

    def __init__(self):
        self.n, self.total, self.squares = 0, 0.0, 0.0

    def add(self, x):
        x = x.detach()
        x = (x.cpu() if x.device.type == "mps" else x).double()  # MPS has no float64
        axes = [0, *range(2, x.ndim)]
        self.n += x.numel() // x.shape[1]
        self.total = self.total + x.sum(axes).cpu()
        self.squares = self.squares + x.square().sum(axes).cpu()

    def mean_and_var(self):
        mean = self.total / self.n
        return mean, (self.squares / self.n - mean**2).clamp_min(0)


def find_batch_norms(module: nn.Module) -> dict[str, nn.Module]:
    """Find the BatchNorm layers whose running statistics may be changed, by name.

    Layers that the frozen stages below a section use as well are left out.
    """
    sections = [m for m in module.modules() if isinstance(m, Section)]
    shared = {layer for section in sections for layer in section.shared_layers()}
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, _BATCH_NORMS)
        and layer.running_mean is not None
        and layer not in shared
    }


def source_statistics(
    network: Network, activations: Activations, batch_size: int
) -> Statistics:
    """Measure the inputs of the BatchNorm layers of a network in eval mode.

    By the names of the layers, in the order of execution, these are the "mean" and
    "var" of the inputs, and the "running_mean" and "running_var" that normalise them,
    each float64 (c,).
    """
    layers = find_batch_norms(network)
    moments = _measure(network, layers, activations, batch_size)
    return {name: _describe(layers[name], seen) for name, seen in moments.items()}


def fit_statistics(
    network: Network, activations: Activations, batch_size: int, source: Statistics
) -> None:
    """Set the running statistics so that the target looks as the source did.

    The network is in eval mode. Its statistics are changed in place, layer by layer:
    each layer has a pass of its own, in which the layers before it have changed.
    `source` comes from :func:`source_statistics`.
    """
    layers = find_batch_norms(network)
    for name, kept in source.items():
        for key in ("running_mean", "running_var"):
            getattr(layers[name], key).copy_(torch.from_numpy(kept[key]).float())
    for name, of_source in source.items():
        layer = layers[name]
        moments = _measure(network, {name: layer}, activations, batch_size)
        mean, var = moments[name].mean_and_var()
        _align(layer, mean, var, of_source)


def _measure(network, layers, activations, batch_size):
    """Return the moments of the inputs of layers, in the order of execution."""
    moments = {}

    def see(name, x):
        moments.setdefault(name, _Moments()).add(x)

    with _hooked(layers, see):
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
def _hooked(layers, see):
    """Call ``see(name, input)`` whenever one of some layers gets an input."""
    handles = [
        layer.register_forward_pre_hook(
            lambda layer, args, name=name: see(name, args[0])
        )
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
