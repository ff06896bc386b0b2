"""Features of some stages, and scores of the pretrained classifier, in one pass."""

import numpy as np
from scipy.special import softmax
from torch import nn

from sktransfer._base import BackboneEstimator
from sktransfer.activations import Pass, Target, gather, open_store
from sktransfer.model import make_pool
from sktransfer.training import Pooling
from sktransfer.utils import check_random_state, spawn_seed

__all__ = ["StageReader", "choose_samples"]


class StageReader(BackboneEstimator):
    """Reader of samples at any stage of a backbone, as the estimators read them.

    Parameters
    ----------
    backbone, weights, image_size, image_shape, value_range, batch_size, device, \
memory, random_state, verbose
        As in :class:`sktransfer.PretrainedFeatureExtractor`.
    """

    def __init__(
        self,
        backbone="efficientnet_lite0",
        *,
        weights="default",
        image_size=None,
        image_shape=None,
        value_range="auto",
        batch_size="auto",
        device="auto",
        memory=None,
        random_state=None,
        verbose=0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.image_size = image_size
        self.image_shape = image_shape
        self.value_range = value_range
        self.batch_size = batch_size
        self.device = device
        self.memory = memory
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_is_fitted__(self):
        return hasattr(self, "samples_")

    def read(self, X):
        """Load the backbone and read X.

        Parameters
        ----------
        X : array-like of n_samples

        Returns
        -------
        self : StageReader
            With ``samples_``.
        """
        self._validate_params()
        X = self._modality(X).validate(self, X, reset=True)
        self.loaded_, self.samples_ = self._load(X, spawn_seed(self.random_state))
        self.backbone_ = self.loaded_.backbone
        self.preprocessing_ = self.loaded_.preprocessing
        return self

    def copy_columns(self, estimator):
        """Set what scikit-learn keeps of the columns of X, if it is a table."""
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(estimator, name, getattr(self, name))

    def features(self, stages, rows=None, pooling="avg"):
        """Return the pooled features of some stages, all from one pass.

        Parameters
        ----------
        stages : list of str
            Names of boundaries; ``"output"`` is the output of the whole network.
        rows : array-like of int, default=None
            By default all samples.
        pooling : str, default="avg"
            See :class:`sktransfer.Pooling`.

        Returns
        -------
        dict of str to float32 ndarray of shape (n, d)
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

    def has_classifier(self):
        """Whether the weights came with a classifier of classes of their own (bool)."""
        backbone = self.backbone_
        if backbone.provider is None or backbone.weights is None:
            return False
        return bool(backbone.classifier_layers()) and self._n_outputs() > 1

    def _n_outputs(self):
        shape = self.backbone_.activation_shape("output")
        return shape[0] if len(shape) == 1 else 0


def choose_samples(n_samples, most, y=None, random_state=None):
    """Choose samples at random, of classes in their proportions.

    Parameters
    ----------
    n_samples : int
    most : int or None
        How many at most; None for all.
    y : ndarray of shape (n_samples,) or (n_samples, n_labels), default=None
        Labels; each class keeps two samples at least where it has them. Multilabel
        targets are not looked at.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    ndarray of int
        In order.
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


def probabilities(outputs):
    """Return the probabilities of a classifier's scores (n, n_classes).

    Parameters
    ----------
    outputs : ndarray of shape (n, n_classes)
    """
    return softmax(outputs.astype(np.float64), axis=1)
