"""Similarity of unlabelled samples to the training samples of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import entr, logsumexp
from sklearn.neighbors import NearestNeighbors
from torch import nn

from sktransfer.advice._reader import StageReader, choose_samples, probabilities
from sktransfer.backbones import Backbone
from sktransfer.compute import resolve_device
from sktransfer.training import run_network, similarity_from
from sktransfer.utils import types


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

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer.advice import domain_similarity
    >>> digits = load_digits().images[:20] / 16
    >>> found = domain_similarity("efficientnet_lite0", digits, image_size=32)
    >>> found.source, list(found.stages)
    ('batch norm', ['stage', 'divergence', 'feature_norm', 'intrinsic_dimension'])
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
    divergences, outputs = run_network(
        backbone, samples, device, has_classifier=has_classifier
    )
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
    similarity, source = similarity_from(divergences), "none"
    if not np.isnan(similarity):
        source = "batch norm"
    elif outputs is not None:
        similarity, source = 1 - entropy, "classifier"
    return DomainSimilarity(similarity, source, table, entropy, energy)


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
