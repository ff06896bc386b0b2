"""Reading of samples for advice: features of stages, and the pretrained classifier."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax
from sklearn.base import BaseEstimator
from torch import nn

from sktransfer._features import PretrainedFeatureExtractor
from sktransfer.activations import Pass, Target, gather, open_store
from sktransfer.model import make_pool
from sktransfer.training import Pooling
from sktransfer.utils import check_random_state, spawn_seed


class StageReader(PretrainedFeatureExtractor):
    """An extractor that computes features of any stages of the network, in one pass."""

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
        """Set what scikit-learn keeps of the columns of X, if X is a table."""
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(estimator, name, getattr(self, name))

    def features(
        self, stages: list[str], rows: ArrayLike | None = None, pooling: str = "avg"
    ) -> dict[str, np.ndarray]:
        """Return pooled float32 features (n, d) of some boundaries, all from one pass.

        The boundary ``"output"`` is the output of the whole network.
        """
        samples = self.samples_ if rows is None else self.samples_.take(rows)
        targets = [Target(name, self._tap(name, pooling)) for name in stages]
        a_pass = Pass(
            self.backbone_,
            targets,
            store=open_store(self.memory),
            runtime=self._runtime(self.loaded_, self.batch_size),
        )
        found = gather(a_pass, samples)
        return {name: np.stack(f) for name, f in zip(stages, found, strict=True)}

    def _tap(self, name, pooling):
        if name == "output":
            return nn.Flatten()
        return make_pool(self.backbone_, name, Pooling(pooling))

    def has_classifier(self) -> bool:
        """Return whether the weights include a classifier of pretrained classes."""
        backbone = self.backbone_
        if backbone.provider is None or backbone.weights is None:
            return False
        return bool(backbone.classifier_layers()) and self._n_outputs() > 1

    def _n_outputs(self):
        shape = self.backbone_.activation_shape("output")
        return shape[0] if len(shape) == 1 else 0


def choose_samples(
    n_samples: int,
    most: int | None,
    y: np.ndarray | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> np.ndarray:
    """Choose at most so many samples at random, with classes in proportion (indices).

    Each class keeps at least two samples if it has them. Multilabel targets are
    ignored.
    """
    if most is None or n_samples <= most:
        return np.arange(n_samples)
    shuffled = check_random_state(random_state).permutation(n_samples)
    if y is None or np.ndim(y) > 1:
        return np.sort(shuffled[:most])
    codes = np.unique(y, return_inverse=True)[1][shuffled]
    # The k-th of m samples of a class comes at (k + 1/2) / m; two come first.
    place = np.empty(n_samples)
    for code in range(codes.max() + 1):
        of_class = np.flatnonzero(codes == code)
        place[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)
        place[of_class[:2]] -= 1
    return np.sort(shuffled[np.argsort(place, kind="stable")[:most]])


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """Return class probabilities from the scores (n, n_classes) of a classifier."""
    return softmax(outputs.astype(np.float64), axis=1)
