from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.compute import Ranks
from sktransfer.fitting._in_common import (
    check_divisible,
    check_samples,
    check_weights,
)
from sktransfer.training import FitSamples, LabelledSamples, Network


class Two(Ranks):
    """Two processes, of which the other one once told another value."""

    told: list = []

    def collect(self, value):
        self.told.append(value)
        return [value, self.told[0]]


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setattr(Two, "told", [])
    return Two(0, 2)


def labelled(digest=b"a", y=(0, 1), weight=(1.0, 2.0)):
    samples = SimpleNamespace(digests=[digest, b"b"])
    return LabelledSamples(samples, np.array(y), np.array(weight))


@pytest.mark.parametrize(
    "other",
    [
        FitSamples(labelled(digest=b"c")),
        FitSamples(labelled(y=(1, 0))),
        FitSamples(labelled(weight=(1.0, 1.0))),
        FitSamples(labelled(), labelled()),
    ],
    ids=["samples", "targets", "weights", "validation"],
)
def test_processes_need_the_same_samples(two, other):
    check_samples(two, FitSamples(labelled()))
    check_samples(two, FitSamples(labelled(), trial=other))  # parts of the same
    check_samples(Ranks(), other)
    with pytest.raises(ValueError, match="^The 2 processes of this fit have different"):
        check_samples(two, other)


def test_processes_need_the_same_weights(two):
    layer = nn.Linear(2, 2)
    check_weights(two, layer)
    with torch.no_grad():
        layer.bias += 1
    check_weights(Ranks(), layer)
    with pytest.raises(ValueError, match="have trained different weights. A callback"):
        check_weights(two, layer)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(5), nn.LayerNorm(5)])
def test_processes_cannot_share_batches_of_batch_norm(norm):
    network = Network(norm, nn.Identity(), nn.Linear(5, 2)).train()
    z = torch.randn(3, 5)
    check_divisible(Ranks(), network, z)
    if isinstance(norm, nn.LayerNorm):
        check_divisible(Ranks(0, 2), network, z)
        return
    with pytest.raises(ValueError, match="scores of this network depend on the whole"):
        check_divisible(Ranks(0, 2), network, z)
    norm.eval()
    check_divisible(Ranks(0, 2), network, z)
