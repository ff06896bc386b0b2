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
    ChannelMoments,
    Data,
    Network,
    Objective,
    cross_entropy,
)

Statistics = dict[str, dict[str, np.ndarray]]  # by layer, then by statistic
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# Weight of the pseudo-labels relative to the information loss, as published.
_PSEUDO_LABELS = 0.3


class AdaBN(AdaptationMethod):
    """Adaptive batch normalisation: statistics that move the target to the source.

    The running statistics of each channel are set so that the output of the
    normalisation has the same mean and variance on the target as it had on the source.
    If the source was normalised by its own statistics, the result is the statistics of
    the target, as in the paper. If it was normalised by the statistics of the
    pretraining, later layers receive inputs that are distributed as in their training.
    No weights are trained, and a target that equals the source changes nothing. Each
    adaptation starts from the source.

    See Also
    --------
    SHOT : Trains the stages on the target.

    References
    ----------
    Y. Li et al. (2016). Revisiting Batch Normalization For Practical Domain Adaptation.
    https://arxiv.org/abs/1603.04779

    Examples
    --------
    >>> from sktransfer.adaptation import AdaBN, DomainAdaptedClassifier
    >>> DomainAdaptedClassifier(method=AdaBN())
    DomainAdaptedClassifier(method=AdaBN())
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
        """Raise an error if there are no BatchNorm layers to change."""
        if not find_batch_norms(context.network):
            raise ValueError(
                "`method='adabn'` needs BatchNorm layers in the stages that are "
                f"trained. Got {context.backbone_name} above {context.boundary!r}, "
                "which has none: freeze fewer stages, or take another method."
            )

    def after_training(self, context: AdaptationContext) -> AdaptationResult:
        """Measure the source, if it is available, and align the target with it."""
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

    The stages that were trained on the source are then trained on the target, to make
    its predictions confident, diverse and consistent with the nearest class centroids.
    Another adaptation continues from the current weights.

    Parameters
    ----------
    weight : float, default=1.0
        Factor of both losses, that of the predictions and that of the centroids.

    See Also
    --------
    AdaBN : Changes the statistics of BatchNorm alone.

    References
    ----------
    J. Liang et al. (2020). Do We Really Need to Access the Source Data? Source
    Hypothesis Transfer for Unsupervised Domain Adaptation.
    https://arxiv.org/abs/2002.08546

    Examples
    --------
    >>> from sktransfer.adaptation import SHOT, DomainAdaptedClassifier
    >>> DomainAdaptedClassifier(method=SHOT(weight=0.5))
    DomainAdaptedClassifier(method=SHOT(weight=0.5))
    """

    name = "shot"
    needs_source = False
    needs_stages = True
    needs_classes = True

    def after_training(self, context: AdaptationContext) -> AdaptationResult | None:
        """Train the stages on the target, if there is one."""
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
    """Compute the mean entropy minus the entropy of the mean prediction.

    From logits (n, k). It lies between ``-log(k)``, for confident predictions of all
    classes in equal shares, and 0.
    """
    mean = torch.softmax(scores, 1).mean(0)  # (k,)
    return entropy(scores).mean() + torch.xlogy(mean, mean).sum()


def centroid_labels(
    features: torch.Tensor, scores: torch.Tensor, n_rounds: int = 1
) -> torch.Tensor:
    """Label samples by the nearest class centroids, as int64 (n,).

    The first centroids are means of the features (n, d), weighted by the probabilities
    of the logits (n, k). `n_rounds` times, each centroid becomes the mean of the
    samples nearest to it. Distances are cosine distances of features with an appended
    entry of one. A class without nearest samples is left out of the next round.
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
    """Update the pseudo-labels in the tensor `labels` before each epoch."""

    def __init__(self, activations, labels, batch_size):
        self.activations = activations
        self.labels = labels
        self.batch_size = batch_size

    def __sklearn_clone__(self):
        return self  # a copy would write to a copy of the labels

    def on_epoch_begin(self, net, **kwargs):
        network = net.module_.eval()
        features = network.features(self.activations, self.batch_size)
        with torch.no_grad(), fixed_threads():
            device = next(network.parameters()).device
            scores = network.head(features.to(device)).cpu()
        self.labels.copy_(centroid_labels(features, scores))

    def on_train_end(self, net, **kwargs):
        self.activations = None  # or the net would keep them after the training


# Statistics of BatchNorm


def find_batch_norms(module: nn.Module) -> dict[str, nn.Module]:
    """Find the BatchNorm layers whose running statistics may be changed, by name.

    Layers that are also part of frozen stages are left out.
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

    Returns a dict by layer name, in the order of execution, with the "mean" and "var"
    of the inputs and the "running_mean" and "running_var" of the layer, float64 (c,).
    """
    layers = find_batch_norms(network)
    moments = _measure(network, layers, activations, batch_size)
    return {name: _describe(layers[name], seen) for name, seen in moments.items()}


def fit_statistics(
    network: Network, activations: Activations, batch_size: int, source: Statistics
) -> None:
    """Set the running statistics so that the target is normalised as the source was.

    The network must be in eval mode. Its layers are changed in place, in the order of
    execution, with one pass of the target per layer, after the layers before it have
    changed. `source` is the result of :func:`source_statistics`.
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
        moments.setdefault(name, ChannelMoments()).add(x)

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
        layer.register_forward_pre_hook(lambda _, args, name=name: see(name, args[0]))
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
