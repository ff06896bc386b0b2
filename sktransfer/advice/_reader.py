"""Features of any stages, and outputs of the pretrained classifier, for the advice."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr, softmax
from sklearn.base import BaseEstimator
from torch import nn

from sktransfer._features import PretrainedFeatureExtractor
from sktransfer.activations import Pass, Target, gather, open_store
from sktransfer.inputs import median_image_size as median_image_size
from sktransfer.model import make_pool
from sktransfer.training import Pooling
from sktransfer.utils import check_random_state, spawn_seed


class StageReader(PretrainedFeatureExtractor):
    """Extractor that computes features of any stages of the network in one pass."""

    def __sklearn_is_fitted__(self):
        return hasattr(self, "samples_")

    def read(self, X) -> StageReader:
        """Load the backbone and read X."""
        self._validate_params()
        X = self._modality(X).validate(self, X, reset=True)
        self.loaded_, self.samples_ = self._load(X, spawn_seed(self.random_state))
        self.backbone_ = self.loaded_.backbone
        self.preprocessing_ = self.loaded_.preprocessing
        return self

    def copy_columns(self, estimator: BaseEstimator) -> None:
        """Copy the attributes that describe the columns of X, if X is a table."""
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(estimator, name, getattr(self, name))

    def features(
        self, stages: list[str], rows: ArrayLike | None = None, pooling: str = "auto"
    ) -> dict[str, np.ndarray]:
        """Compute the pooled float32 features (n, d) at boundaries, in one pass.

        The boundary ``"output"`` is that of the outputs of the whole network.
        """
        samples = self.samples_ if rows is None else self.samples_.take(rows)
        targets = [Target(name, self._pool(name, pooling)) for name in stages]
        a_pass = Pass(
            self.backbone_,
            targets,
            store=open_store(self.memory),
            runtime=self._runtime(self.loaded_, self.batch_size),
        )
        found = gather(a_pass, samples)
        return {name: np.stack(f) for name, f in zip(stages, found, strict=True)}

    def _pool(self, name, pooling):
        if name == "output":
            return nn.Flatten()
        return make_pool(self.backbone_, name, Pooling(pooling))

    def has_classifier(self) -> bool:
        """Whether the backbone has the classifier that it was pretrained with."""
        backbone = self.backbone_
        is_pretrained = backbone.provider is not None and backbone.weights is not None
        if not (is_pretrained and backbone.classifier_layers()):
            return False
        shape = backbone.activation_shape("output")
        return len(shape) == 1 and shape[0] > 1


def choose_samples(
    n_samples: int,
    most: int | None,
    y: np.ndarray | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> np.ndarray:
    """Choose at most `most` samples at random, stratified by class (indices).

    The first two samples of each class come before all others. Targets with several
    columns are not stratified.
    """
    if most is None or n_samples <= most:
        return np.arange(n_samples)
    shuffled = check_random_state(random_state).permutation(n_samples)
    if y is None or np.ndim(y) > 1:
        return np.sort(shuffled[:most])
    codes = np.unique(y, return_inverse=True)[1][shuffled]
    # The k-th of m samples of a class has the rank (k + 1/2) / m; the first two of
    # each class come before all others.
    rank = np.empty(n_samples)
    for code in range(codes.max() + 1):
        of_class = np.flatnonzero(codes == code)
        rank[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)
        rank[of_class[:2]] -= 1
    return np.sort(shuffled[np.argsort(rank, kind="stable")[:most]])


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """Return the class probabilities of scores (n, n_classes)."""
    return softmax(outputs.astype(np.float64), axis=1)


def class_balance(y: np.ndarray) -> dict[str, float]:
    """Return the number of classes, their balance and the size of the smallest (dict).

    The balance is the entropy of the classes' shares relative to its maximum: 1 if all
    classes are equally large, and near 0 if nearly all samples are of one class.
    """
    shares = np.unique(y, return_counts=True)[1] / len(y)
    balance = entr(shares).sum() / np.log(max(len(shares), 2))
    return {
        "classes": len(shares),
        "balance": float(balance),
        "smallest_class": round(shares.min() * len(y)),
    }
