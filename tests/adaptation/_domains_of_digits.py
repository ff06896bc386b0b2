"""Digits; those of the target domain have an offset in each place."""

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
    """Classify rows with a network of two stages."""
    inner = FineTunedClassifier(backbone, **_settings(settings))
    return DomainAdaptedClassifier(inner, method)


def regressor(method, **settings):
    """Regress on rows with a network of two stages."""
    inner = FineTunedRegressor(make_network, **_settings(settings))
    return DomainAdaptedRegressor(inner, method)


def outputs(model):
    """Return what a model predicts for new samples of the target."""
    return getattr(model, "predict_proba", model.predict)(NEW)
