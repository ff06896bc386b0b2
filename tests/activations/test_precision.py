import copy
import logging

import pytest
import torch
from torch import nn

from sktransfer import compute
from sktransfer.activations import choose_precision
from sktransfer.activations._precision import precision_error
from sktransfer.backbones import load_backbone

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _gains(monkeypatch):
    monkeypatch.setattr(compute._runtime, "gains_by_bfloat16", lambda device: True)


class Fragile(nn.Module):
    """Looks for differences far below what bfloat16 can tell apart."""

    def __init__(self, network):
        super().__init__()
        self.network = network[:4]
        self.last = nn.Conv2d(64, 64, 1)

    def forward(self, x):
        z = self.last(self.network(x) + 100)
        return z - z.mean((2, 3), keepdim=True)


def test_bfloat16_where_features_stay_near(backbone):
    assert 1e-4 < precision_error(backbone, CPU, "bfloat16") < 0.05
    assert choose_precision(backbone, "auto", CPU) == "bfloat16"
    assert choose_precision(backbone, "float32", CPU) == "float32"


def test_float32_where_they_do_not(backbone, caplog):
    network = Fragile(backbone.module)
    fragile = load_backbone(network, preprocessing=backbone.preprocessing)
    with caplog.at_level(logging.INFO, "sktransfer"):
        assert choose_precision(fragile, "auto", CPU) == "folded"
    text = "Fragile is not computed in precision 'bfloat16', which moves its features b"
    assert text in caplog.text


def test_float32_where_there_are_no_numbers(backbone):
    with torch.no_grad():
        backbone.module[0][0].weight.fill_(float("nan"))
    assert precision_error(backbone, CPU, "bfloat16") == float("inf")
    assert precision_error(backbone, CPU, "folded") == float("inf")
    with pytest.warns(UserWarning, match="computed as they are: folding .* by inf%"):
        assert choose_precision(backbone, "auto", CPU) == "float32"


class Holds(nn.Module):
    """Uses the weight of a convolution that it keeps out of sight."""

    def __init__(self, convolution):
        super().__init__()
        self.kept = [convolution]

    def forward(self, x):
        return x * self.kept[0].weight.sum()


def test_unfolded_where_the_weight_is_read_out_of_sight(backbone):
    network = copy.deepcopy(backbone.module)
    network[0].append(Holds(network[0][0]))
    with torch.no_grad():
        network[0][1].running_var.fill_(4)
    hidden = load_backbone(network, preprocessing=backbone.preprocessing)
    message = (
        r"^The frozen stages of Sequential are computed as they are: folding BatchNorm "
        r"into convolutions would move their activations by \d.*%. Set `precision="
    )
    with pytest.warns(UserWarning, match=message):
        assert choose_precision(hidden, "auto", CPU) == "float32"


class ThroughNumpy(nn.Module):
    """Cannot take bfloat16."""

    def forward(self, x):
        return torch.from_numpy(x.detach().numpy())


def test_network_that_takes_no_bfloat16(backbone):
    network = copy.deepcopy(backbone.module)
    network[1].insert(1, ThroughNumpy())  # behind a convolution
    kept = load_backbone(network, preprocessing=backbone.preprocessing)
    assert choose_precision(kept, "auto", CPU) == "folded"


@pytest.mark.filterwarnings("ignore:Samples go through Sequential one at a time")
def test_impure_networks_are_computed_as_they_are(backbone):
    network = copy.deepcopy(backbone.module)
    network[0][1] = nn.BatchNorm2d(32, track_running_stats=False)
    impure = load_backbone(network, preprocessing=backbone.preprocessing)
    assert choose_precision(impure, "auto", CPU) == "float32"


def test_the_answer_is_remembered(backbone, monkeypatch):
    expected = choose_precision(backbone, "auto", CPU)
    monkeypatch.setattr("sktransfer.activations._precision.precision_error", None)
    assert choose_precision(backbone, "auto", CPU) == expected


def test_vectors_are_computed_in_float32():
    backbone = load_backbone(nn.Linear(3, 2))
    assert choose_precision(backbone, "auto", CPU) == "float32"


def test_shipped_weights_stay_near():
    backbone = load_backbone("efficientnet_lite0")
    assert precision_error(backbone, CPU, "bfloat16") < 0.05
