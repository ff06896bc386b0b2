"""Digits, with a constant offset per pixel in the target domain."""

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

from sktransfer import FineTunedClassifier, FineTunedRegressor
from sktransfer.adaptation import DomainAdaptedClassifier, DomainAdaptedRegressor

DIGITS = load_digits(n_class=3)
N = 48
SOURCE, Y = DIGITS.data[:N] / 16, DIGITS.target[:N]
OFFSET = np.random.RandomState(0).normal(size=64)
TARGET, Y_TARGET = DIGITS.data[N : 2 * N] / 16 + OFFSET, DIGITS.target[N : 2 * N]
NEW, Y_NEW = DIGITS.data[2 * N : 300] / 16 + OFFSET, DIGITS.target[2 * N : 300]
ROWS = np.concatenate([SOURCE, TARGET])
DOMAIN = np.repeat([1, -2], N)
MASKED = np.concatenate([Y, np.full(N, -1)])
INK = np.concatenate([SOURCE.sum(axis=1), np.full(N, np.nan)])


def make_network():
    return nn.Sequential(
        nn.LazyLinear(16),
        nn.ReLU(),
        nn.Linear(16, 12),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Linear(12, 8),
    )


def _settings(settings):
    common = {"freeze": 1, "max_epochs": 2, "lr": 1e-2, "batch_size": 16}
    return {**common, "random_state": 0, **settings}


def classifier(method, backbone=make_network, **settings):
    """Return a classifier of rows, with a network of two stages."""
    inner = FineTunedClassifier(backbone, **_settings(settings))
    return DomainAdaptedClassifier(inner, method)


def regressor(method, **settings):
    """Return a regressor of rows, with a network of two stages."""
    inner = FineTunedRegressor(make_network, **_settings(settings))
    return DomainAdaptedRegressor(inner, method)


def outputs(model):
    """Return the predictions of a model for new samples of the target."""
    return getattr(model, "predict_proba", model.predict)(NEW)


# scikit-learn's checks call `fit(X, y)` without a target, which methods that need one
# refuse: a training on the source alone is not what was asked for. So the contract of
# the default methods is checked with the samples once more as the target domain.


class Network(nn.Sequential):
    def __init__(self, width=16):
        layers = (
            nn.LazyLinear(width),
            nn.ReLU(),
            nn.Linear(width, width // 2),
            nn.ReLU(),
        )
        super().__init__(*layers)


class WideNetwork(Network):
    def __init__(self):
        super().__init__(128)


def with_target(X, y, sample_weight):
    """Return arguments of `fit` with the samples once more, as the target domain.

    The samples are those that weigh something, and each is there once, so that weights
    and repetitions of source samples mean the same.
    """
    X_source, y = np.asarray(X), np.asarray(y)
    if X_source.dtype.kind == "O":
        X_source = X_source.astype(np.float64)
    if (
        X_source.ndim != 2
        or X_source.dtype.kind not in "iuf"
        or len(X_source) != len(y)
    ):
        raise ValueError("The checks expect an error, which is up to the estimator.")
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
    X_target = np.unique(X_source[weight > 0], axis=0)
    n = len(X_target)
    domain = np.repeat([1, -1], [len(y), n])
    y = np.concatenate([y, y[:1].repeat(n, axis=0)])
    X_both, weight = np.concatenate([X_source, X_target]), np.r_[weight, np.ones(n)]
    return X_both, y, weight, domain


class FitWithTarget:
    """Mixin of estimators that get the samples once more, as the target domain.

    What cannot be target samples is passed on as it is, for the errors.
    """

    def fit(self, X, y=None, sample_weight=None):
        try:
            X_both, y_both, weight, domain = with_target(X, y, sample_weight)
        except (TypeError, ValueError, IndexError, AttributeError):
            return super().fit(X, y, sample_weight)
        if hasattr(X, "columns"):
            X_both = type(X)(X_both, columns=X.columns)
        return super().fit(X_both, y_both, weight, sample_domain=domain)
