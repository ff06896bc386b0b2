import logging

import pytest
import torch
from torch import nn

from sktransfer import compute
from sktransfer.activations import choose_precision
from sktransfer.activations._precision import bfloat16_error
from sktransfer.backbones import load_backbone

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _gains(monkeypatch):
    monkeypatch.setattr(compute._precision, "gains_by_bfloat16", lambda device: True)


class Fragile(nn.Module):
    """Looks for differences far below what bfloat16 can tell apart."""

    def __init__(self, network):
        super().__init__()
        self.network = network[:4]
        self.last = nn.Conv2d(64, 64, 1)

    def forward(self, x):
        z = self.last(self.network(x) + 1000)
        return z - z.mean((2, 3), keepdim=True)


def test_bfloat16_where_features_stay_near(backbone):
    assert 1e-4 < bfloat16_error(backbone, CPU) < 0.05
    assert choose_precision(backbone, "auto", CPU) == "bfloat16"
    assert choose_precision(backbone, "float32", CPU) == "float32"


def test_float32_where_they_do_not(backbone, caplog):
    network = Fragile(backbone.module)
    fragile = load_backbone(network, preprocessing=backbone.preprocessing)
    with caplog.at_level(logging.INFO, "sktransfer"):
        assert choose_precision(fragile, "auto", CPU) == "folded"
    assert "Fragile stays in float32: bfloat16 moves its features by" in caplog.text


def test_float32_where_there_are_no_numbers(backbone):
    with torch.no_grad():
        backbone.module[0][0].weight.fill_(float("nan"))
    assert bfloat16_error(backbone, CPU) == float("inf")
    assert choose_precision(backbone, "auto", CPU) == "folded"


def test_the_answer_is_remembered(backbone, monkeypatch):
    expected = choose_precision(backbone, "auto", CPU)
    monkeypatch.setattr("sktransfer.activations._precision.bfloat16_error", None)
    assert choose_precision(backbone, "auto", CPU) == expected


def test_vectors_are_computed_in_float32():
    backbone = load_backbone(nn.Linear(3, 2))
    assert choose_precision(backbone, "auto", CPU) == "float32"


def test_shipped_weights_stay_near():
    backbone = load_backbone("efficientnet_lite0")
    assert bfloat16_error(backbone, CPU) < 0.05
