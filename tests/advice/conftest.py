"""Small networks and data for the tests of the advice."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_sample_images
from torch import nn

from sktransfer.backbones import load_backbone
from sktransfer.inputs import ImagePreprocessing

PREPROCESSING = ImagePreprocessing(
    size=(16, 16), resize=16, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3
)


@pytest.fixture(scope="session")
def digits():
    """Return 120 images of digits and their labels."""
    data = load_digits()
    return data.images[:120] / 16, data.target[:120]


@pytest.fixture
def make_small():
    """Return a function that makes a small convolutional network with BatchNorm."""

    def make(seed=0):
        torch.manual_seed(seed)
        blocks = [
            nn.Sequential(
                nn.Conv2d(a, b, 3, stride=2, padding=1), nn.BatchNorm2d(b), nn.ReLU()
            )
            for a, b in [(3, 8), (8, 16), (16, 16)]
        ]
        module = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return load_backbone(module.eval(), preprocessing=PREPROCESSING)

    return make


@pytest.fixture(scope="session")
def photographs():
    """Return 64 crops of scikit-learn's two photographs, (64, 160, 160, 3)."""
    rng = np.random.default_rng(0)
    crops = []
    for k in range(64):
        image = load_sample_images().images[k % 2]
        top, left = rng.integers(0, 427 - 160), rng.integers(0, 640 - 160)
        crops.append(image[top : top + 160, left : left + 160])
    return np.stack(crops)
