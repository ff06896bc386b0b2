"""Digits; those of the target domain have an offset in each place."""

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

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


def classifier(method, **settings):
    """Classify rows with a network of two stages."""
    network = settings.pop("backbone", make_network)
    return DomainAdaptedClassifier(network, method=method, **_settings(settings))


def regressor(method, **settings):
    """Regress on rows with a network of two stages."""
    return DomainAdaptedRegressor(make_network, method=method, **_settings(settings))
