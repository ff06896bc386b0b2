import subprocess
import sys

import pytest
import torch
from torch import nn

from sktransfer.backbones import load_backbone
from sktransfer.inputs import ImagePreprocessing

PREPROCESSING = ImagePreprocessing(
    size=(16, 16), resize=16, interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1)
)


def _backbone(change=None, stride=2):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=stride), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
    )
    if change is not None:
        change(network)
    return load_backbone(network, preprocessing=PREPROCESSING)


def _one_weight(network):
    with torch.no_grad():
        network[0].weight[0, 0, 0, 0] += 1e-6


def _eps(network):
    network[1].eps = 1e-4


def _statistics(network):
    network[1].running_mean += 1e-6


def test_equal_networks_have_equal_fingerprints():
    assert _backbone().fingerprint == _backbone().fingerprint
    assert len(_backbone().fingerprint) == 32


@pytest.mark.parametrize("change", [_one_weight, _eps, _statistics])
def test_any_change_changes_it(change):
    assert _backbone(change).fingerprint != _backbone().fingerprint


def test_another_stride_changes_it():
    assert _backbone(stride=1).fingerprint != _backbone().fingerprint


def test_it_is_the_same_in_another_process():
    code = (
        "from sktransfer.backbones import load_backbone;"
        "print(load_backbone('torchvision/resnet18', weights=None, image_size=64,"
        "random_state=0).fingerprint)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    here = load_backbone(
        "torchvision/resnet18", weights=None, image_size=64, random_state=0
    )
    assert run.stdout.strip() == here.fingerprint


def test_a_layer_of_ones_own_counts_with_its_code():
    class Twice(nn.Module):
        def forward(self, x):
            return x * 2

    class Thrice(nn.Module):
        def forward(self, x):
            return x * 3

    Thrice.__name__ = "Twice"
    prints = {
        load_backbone(nn.Sequential(nn.Identity(), layer), n_features=3).fingerprint
        for layer in (Twice(), Thrice())
    }
    assert len(prints) == 2


def test_that_of_a_prefix_disregards_the_suffix():
    first = load_backbone("torchvision/resnet18", weights=None, random_state=0)
    second = load_backbone("torchvision/resnet18", weights=None, random_state=0)
    with torch.no_grad():
        second.module.layer3[0].conv1.weight += 1
    same = [
        first.prefix_fingerprint(name) == second.prefix_fingerprint(name)
        for name in ("stem", "layer2", "layer3", "layer4")
    ]
    assert same == [True, True, False, False]
