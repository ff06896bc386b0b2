"""Similarity of unlabelled samples to the training samples of a network."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import entr, logsumexp
from sklearn.neighbors import NearestNeighbors
from torch import nn

from sktransfer.advice._costs import model_inputs
from sktransfer.advice._reader import StageReader, choose_samples, probabilities
from sktransfer.backbones import Backbone
from sktransfer.compute import resolve_device
from sktransfer.utils import types

_BATCH = 16
# The divergence at which the similarity is 1/e. That of photographs is 0.04 to 0.06 in
# EfficientNet-Lite0, of drawings 0.12 to 0.16, of digits 0.4 and of noise 0.7: see the
# user guide.
_SCALE = 0.2
_FLOOR = 1e-12  # of the variances of channels that never vary
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class DomainSimilarity:
    """Similarity of samples to the training samples of a network.

    Parameters
    ----------
    similarity : float
        Similarity in [0, 1]; 1 means as similar as the training samples, and NaN that
        it is unknown.
    source : {"batch norm", "classifier", "none"}
        Whether the similarity is computed from the statistics of BatchNorm or from the
        entropy of the pretrained classifier, or is unknown.
    stages : pandas.DataFrame
        One row per stage: ``stage``; ``divergence`` from the statistics of its
        BatchNorm layers, NaN if it has none; ``feature_norm``, the mean norm of its
        pooled features; and their ``intrinsic_dimension``.
    entropy : float
        Mean entropy of the pretrained classifier's probabilities, as a share of the
        maximum; NaN without a classifier.
    energy : float
        Mean log-sum-exp of the pretrained classifier's scores, which is higher if it is
        more confident; NaN without a classifier.
    """

    similarity: float
    source: str
    stages: pd.DataFrame
    entropy: float
    energy: float

    def __float__(self):
        """Return the similarity."""
        return self.similarity


def domain_similarity(
    backbone: str | nn.Module | Backbone,
    X: types.Samples,
    *,
    max_samples: int | None = 64,
    random_state: types.RandomState | None = 0,
    **options: Any,
) -> DomainSimilarity:
    r"""Measure how similar samples are to the training samples of a network.

    No labels are needed. BatchNorm layers hold the mean and variance that each channel
    had in the pretraining. The divergence d is the Kullback-Leibler divergence between
    Gaussians with the moments of the samples and with the stored ones, as the median
    over channels, averaged over layers. The similarity is :math:`e^{-d / 0.2}`. Without
    BatchNorm, it is one minus the entropy of the pretrained classifier's predictions,
    as a share of the maximum; without a classifier, it is unknown.

    Parameters
    ----------
    backbone : str, torch.nn.Module or Backbone
        Pretrained backbone, as in :func:`sktransfer.backbones.load_backbone`.
    X : array-like of n_samples
        Samples, as in :class:`sktransfer.PretrainedFeatureExtractor`.
    max_samples : int or None, default=64
        Maximum number of samples, chosen at random; None means all samples. With fewer
        than about ten samples, variances and the similarity are underestimated.
    random_state : int, RandomState instance or None, default=0
        Seeds the choice of samples.
    **options
        `weights`, `image_size`, `image_shape`, `value_range`, `batch_size`, `device`
        and `memory`, as in :class:`sktransfer.PretrainedFeatureExtractor`.

    Returns
    -------
    DomainSimilarity

    Raises
    ------
    ValueError
        If X cannot be read.

    See Also
    --------
    TransferAdvisor : Recommends a strategy, also by the similarity.

    References
    ----------
    .. [1] Y. Li et al. (2017). Revisiting batch normalization for practical domain
       adaptation. https://arxiv.org/abs/1603.04779
    .. [2] W. Liu et al. (2020). Energy-based out-of-distribution detection.
       https://arxiv.org/abs/2010.03759
    .. [3] E. Facco et al. (2017). Estimating the intrinsic dimension of datasets by a
       minimal neighborhood information. https://arxiv.org/abs/1803.06992

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer.advice import domain_similarity
    >>> digits = load_digits().images[:20] / 16
    >>> float(domain_similarity("efficientnet_lite0", digits)) < 0.3
    True
    """
    reader = StageReader(backbone, random_state=random_state, **options).read(X)
    n = len(reader.samples_)
    rows = choose_samples(n, max_samples, None, random_state)
    return similarity_of(
        reader.backbone_,
        reader.samples_.take(rows),
        reader.features(reader.backbone_.stage_names, rows),
        has_classifier=reader.has_classifier(),
        device=resolve_device(options.get("device", "auto")),
    )


def similarity_of(
    backbone: Backbone,
    samples,
    features: Mapping[str, np.ndarray],
    *,
    has_classifier: bool,
    device: torch.device,
) -> DomainSimilarity:
    """Measure the similarity of samples, given their pooled features per stage.

    `has_classifier` says whether the outputs of the network are scores of the classes
    that it was pretrained on.
    """
    divergences, outputs = _run_network(backbone, samples, has_classifier, device)
    table = pd.DataFrame(
        {
            "stage": [*features],
            "divergence": [_mean(divergences[name]) for name in features],
            "feature_norm": [_norm(F) for F in features.values()],
            "intrinsic_dimension": [intrinsic_dimension(F) for F in features.values()],
        }
    )
    entropy = energy = np.nan
    if outputs is not None:
        theta = probabilities(outputs)
        each = entr(theta).sum(axis=1)  # (n,), in nats
        entropy = float(each.mean() / np.log(theta.shape[1]))
        energy = float(logsumexp(outputs.astype(np.float64), axis=1).mean())
    every = [d for of_stage in divergences.values() for d in of_stage]
    similarity, source = np.nan, "none"
    if every:
        similarity, source = float(np.exp(-np.mean(every) / _SCALE)), "batch norm"
    elif outputs is not None:
        similarity, source = 1 - entropy, "classifier"
    return DomainSimilarity(similarity, source, table, entropy, energy)


def _run_network(backbone, samples, has_classifier, device):
    """Pass samples through a copy of the network.

    Returns a list of divergences of the BatchNorm layers per stage, and the scores of
    the pretrained classifier (n, n_classes) or None.
    """
    layers = _batch_norms(backbone)
    if not has_classifier and not any(layers.values()):
        return layers, None
    module = copy.deepcopy(backbone.module).eval().to(device)
    modules = dict(module.named_modules())
    moments = {path: _Moments() for of_stage in layers.values() for path in of_stage}
    for path, moment in moments.items():
        modules[path].register_forward_pre_hook(moment)
    outputs = []
    for x in model_inputs(samples, backbone.preprocessing, _BATCH, device):
        with torch.inference_mode():
            out = module(x)
        if has_classifier:
            outputs.append(out.float().cpu().numpy())
    found = {
        name: [moments[path].divergence(modules[path]) for path in paths]
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


class _Moments:
    """A hook that sums the inputs of a layer and their squares, per channel."""

    def __init__(self):
        self.n, self.total, self.squares = 0, 0.0, 0.0

    def __call__(self, layer, inputs):
        z = inputs[0].transpose(0, 1).flatten(1).double()  # (c, n)
        self.n += z.shape[1]
        self.total = self.total + z.sum(dim=1)
        self.squares = self.squares + z.square().sum(dim=1)

    def divergence(self, layer):
        """Return the divergence from the layer's statistics, a median over channels."""
        mean = self.total / self.n
        variance = (self.squares / self.n - mean.square()).clamp_min(_FLOOR)
        known = layer.running_var.double().clamp_min(_FLOOR)
        ratio = variance / known
        away = (mean - layer.running_mean.double()).square() / known
        return float(((ratio + away - 1 - ratio.log()) / 2).median())


def _mean(values):
    return float(np.mean(values)) if len(values) else np.nan


def _norm(features):
    return float(np.linalg.norm(features.astype(np.float64), axis=1).mean())


def intrinsic_dimension(features: np.ndarray) -> float:
    """Estimate the dimension of points (n_samples, d) by their two nearest neighbours.

    It is NaN for fewer than four distinct points.
    """
    F = np.unique(np.asarray(features, dtype=np.float64), axis=0)
    if len(F) < 4:
        return np.nan
    first, second = NearestNeighbors(n_neighbors=2).fit(F).kneighbors()[0].T
    logs = np.log(second[first > 0] / first[first > 0])
    return float((len(logs) - 1) / logs.sum()) if logs.sum() > 0 else np.nan
