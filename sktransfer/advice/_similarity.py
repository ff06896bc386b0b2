"""How far samples lie from what a network was trained on, without labels."""

import copy
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp, xlogy
from sklearn.datasets import load_sample_images
from torch import nn

from sktransfer.advice._reader import StageReader, choose_samples, probabilities
from sktransfer.inputs import iter_batches

__all__ = [
    "DomainSimilarity",
    "domain_similarity",
    "intrinsic_dimension",
    "similarity_of",
]

_BATCH = 16
# The divergence at which the similarity is 1/e. Of EfficientNet-Lite0's layers,
# photographs had a divergence of 0.04 to 0.06, drawings 0.12 to 0.16, digits 0.4, noise
# 0.7: see the user guide.
_SCALE = 0.2
_NORM_SCALE = 0.5  # the same, of the logarithm of ratios of norms
_FLOOR = 1e-12  # of variances: channels that never vary
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class DomainSimilarity:
    """How near samples are to what a network was trained on.

    Parameters
    ----------
    similarity : float
        From 1, as near as the images of its training, to 0; NaN where nothing says.
    source : {"batch norm", "classifier", "feature norms", "none"}
        What the similarity goes by.
    stages : pandas.DataFrame
        One row a stage: ``stage``, ``divergence`` from the statistics of BatchNorm (NaN
        without), ``feature_norm`` (mean norm of the pooled features), and
        ``intrinsic_dimension`` of these.
    entropy : float
        Of the pretrained classifier's probabilities, as a share of the greatest; NaN
        without one.
    energy : float
        Mean of the logarithm of the summed exponentials of its scores; the higher, the
        surer.
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
    backbone,
    X,
    *,
    max_samples=64,
    random_state=0,
    **options,
):
    r"""Say how near samples are to what a network was trained on, without labels.

    BatchNorm layers remember mean and variance of each channel in training. With those
    of the samples, they give a divergence between two Gaussians; the similarity is
    :math:`e^{-d / 0.2}`, with d the median over channels, averaged over layers. Where
    there is no BatchNorm, it goes by the entropy of the pretrained classifier, and
    without one by how far the norms of features are from those of photographs.

    Parameters
    ----------
    backbone : str, torch.nn.Module or Backbone
        As in :func:`sktransfer.backbones.load_backbone`, with its weights.
    X : array-like of n_samples
        As in :class:`sktransfer.PretrainedFeatureExtractor`.
    max_samples : int or None, default=64
        So many are chosen at random. Variances of less than ten samples or so come out
        too small, and the similarity with them.
    random_state : int, RandomState instance or None, default=0
        Seeds that choice.
    **options
        `weights`, `image_size`, `image_shape`, `value_range`, `batch_size`, `device`,
        and `memory` as in :class:`sktransfer.PretrainedFeatureExtractor`.

    Returns
    -------
    DomainSimilarity

    Raises
    ------
    ValueError
        If X cannot be read.

    See Also
    --------
    TransferAdvisor : Freezes by it.

    References
    ----------
    .. [1] Li, Y., Wang, N., Shi, J., Liu, J., & Hou, X. (2017). Revisiting batch
       normalization for practical domain adaptation. https://arxiv.org/abs/1603.04779
    .. [2] Liu, W., Wang, X., Owens, J., & Li, Y. (2020). Energy-based
       out-of-distribution detection. *Advances in Neural Information Processing
       Systems*, 33. https://arxiv.org/abs/2010.03759
    .. [3] Facco, E., d'Errico, M., Rodriguez, A., & Laio, A. (2017). Estimating the
       intrinsic dimension of datasets by a minimal neighborhood information.
       *Scientific Reports*, 7. https://arxiv.org/abs/1803.06992

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer.advice import domain_similarity
    >>> digits = load_digits().images[:20]
    >>> float(domain_similarity("efficientnet_lite0", digits)) < 0.3
    True
    """
    reader = StageReader(backbone, random_state=random_state, **options).read(X)
    n = len(reader.samples_)
    return similarity_of(reader, choose_samples(n, max_samples, None, random_state))


def similarity_of(reader, rows):
    """Return how near some samples of a reader are (DomainSimilarity).

    Parameters
    ----------
    reader : StageReader
        That has read X.
    rows : ndarray of int
    """
    divergences, outputs = _look(reader, rows)
    names = reader.backbone_.stage_names
    features = reader.features(names, rows)
    table = pd.DataFrame(
        {
            "stage": names,
            "divergence": [_mean(divergences[name]) for name in names],
            "feature_norm": [_norm(features[name]) for name in names],
            "intrinsic_dimension": [intrinsic_dimension(features[n]) for n in names],
        }
    )
    entropy = energy = np.nan
    if outputs is not None:
        theta = probabilities(outputs)
        each = -xlogy(theta, theta).sum(axis=1)  # (n,), in nats
        entropy = float(each.mean() / np.log(theta.shape[1]))
        energy = float(logsumexp(outputs.astype(np.float64), axis=1).mean())
    every = [d for of_stage in divergences.values() for d in of_stage]
    similarity, source = _judge(reader, every, entropy, table)
    return DomainSimilarity(similarity, source, table, entropy, energy)


def _judge(reader, divergences, entropy, table):
    """Return the similarity, and what it goes by."""
    if divergences:
        return float(np.exp(-np.mean(divergences) / _SCALE)), "batch norm"
    if np.isfinite(entropy):
        return 1 - entropy, "classifier"
    if reader.preprocessing_.kind != "image":
        return np.nan, "none"
    known = _photographs(reader).features(list(table["stage"]))
    norms = np.array([_norm(features) for features in known.values()])
    ratios = table["feature_norm"].to_numpy() / np.maximum(norms, _FLOOR)
    apart = np.abs(np.log(np.maximum(ratios, _FLOOR))).mean()
    return float(np.exp(-apart / _NORM_SCALE)), "feature norms"


def photographs(n=32, side=224):
    """Return crops of scikit-learn's two photographs, always the same.

    Parameters
    ----------
    n : int, default=32
    side : int, default=224
        In pixels.

    Returns
    -------
    uint8 ndarray of shape (n, side, side, 3)
    """
    images = load_sample_images().images
    rng, found = np.random.RandomState(0), []
    for k in range(n):
        image = images[k % len(images)]
        top = rng.randint(image.shape[0] - side)
        left = rng.randint(image.shape[1] - side)
        found.append(image[top : top + side, left : left + side])
    return np.stack(found)


def _photographs(reader):
    """Return a reader of crops of scikit-learn's photographs for the same backbone."""
    settings = {**reader.get_params(deep=False), "backbone": reader.backbone_}
    settings |= {"weights": "default", "image_shape": None, "value_range": "auto"}
    return type(reader)(**settings).read(photographs())


def _look(reader, rows):
    """Send samples through a copy of the network.

    Returns the divergences of the BatchNorm layers of each stage, and the scores of
    the pretrained classifier (n, n_classes) or None.
    """
    backbone, has_classifier = reader.backbone_, reader.has_classifier()
    layers = _batch_norms(backbone)
    found = {name: [] for name in layers}
    if not has_classifier and not any(layers.values()):
        return found, None
    module = copy.deepcopy(backbone.module).eval()
    modules = dict(module.named_modules())
    moments = {path: _Moments() for of_stage in layers.values() for path in of_stage}
    for path, moment in moments.items():
        modules[path].register_forward_pre_hook(moment)
    device = reader.device_
    module.to(device)
    outputs = []
    samples, preprocessing = reader.samples_.take(rows), backbone.preprocessing
    with closing(iter_batches(samples, preprocessing, _BATCH)) as batches:
        for batch in batches:
            with torch.inference_mode():
                out = module(preprocessing.to_input(batch.to(device)))
            outputs.append(out.float().cpu().numpy() if has_classifier else None)
    for name, paths in layers.items():
        found[name] = [moments[path].divergence(modules[path]) for path in paths]
    return found, np.concatenate(outputs) if has_classifier else None


def _batch_norms(backbone):
    """Return the paths of the BatchNorm layers with statistics, by stage (dict)."""
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
    """A hook that sums up what goes into a layer, channel by channel."""

    def __init__(self):
        self.n, self.total, self.squares = 0, 0.0, 0.0

    def __call__(self, layer, inputs):
        z = inputs[0].transpose(0, 1).flatten(1).double()  # (c, n)
        self.n += z.shape[1]
        self.total = self.total + z.sum(dim=1)
        self.squares = self.squares + z.square().sum(dim=1)

    def divergence(self, layer):
        """Return the median divergence of channels from what a layer remembers."""
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


def intrinsic_dimension(features):
    """Estimate on how many dimensions points lie, by their two nearest neighbours.

    Parameters
    ----------
    features : array-like of shape (n_samples, d)

    Returns
    -------
    float
        NaN for fewer than four distinct points.
    """
    F = np.unique(np.asarray(features, dtype=np.float64), axis=0)
    if len(F) < 4:
        return np.nan
    squares = np.square(F).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * F @ F.T, 0)
    np.fill_diagonal(distances, np.inf)
    first, second = np.sqrt(np.partition(distances, 1, axis=1)[:, :2]).T
    logs = np.log(second[first > 0] / first[first > 0])
    return float((len(logs) - 1) / logs.sum()) if logs.sum() > 0 else np.nan
