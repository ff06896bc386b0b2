from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.activations import _pass, forward_passes
from sktransfer.activations._store import MemoryStore, Store, choose
from sktransfer.backbones import load_backbone
from sktransfer.compute import Runtime
from sktransfer.inputs import ImagePreprocessing, as_samples

PREPROCESSING = ImagePreprocessing(
    size=(32, 32), resize=32, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1)
)


def small_network():
    torch.manual_seed(0)
    blocks = [
        nn.Sequential(
            nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU()
        )
        for a, b in [(3, 32), (32, 64), (64, 64), (64, 64)]
    ]
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*blocks, *tail).eval()


@pytest.fixture
def keeping_is_free(monkeypatch):
    """Let only the budgets decide what is stored, and not the measured times."""

    def choose_free(measured, n_samples, budget):
        free = [replace(cost, keep_seconds=0.0) for cost in measured]
        return choose(free, n_samples, budget)

    monkeypatch.setattr(_pass, "choose", choose_free)


@pytest.fixture
def backbone():
    return load_backbone(small_network(), preprocessing=PREPROCESSING)


@pytest.fixture
def samples():
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, (20, 40, 40, 3), dtype=np.uint8)
    return as_samples(images, PREPROCESSING)


@pytest.fixture
def store():
    return Store(MemoryStore())


@pytest.fixture
def runtime():
    return Runtime(torch.device("cpu"), 8, "float32")


@pytest.fixture
def passes():
    counts = forward_passes()
    counts.clear()
    return counts
