import copy
import logging
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer import compute
from sktransfer.activations import choose_precision
from sktransfer.activations._engine import precision_error, run_alone, run_section
from sktransfer.backbones import load_backbone


def test_float32_is_exact(backbone, runtime):
    x = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        expected = backbone.section("input", "2")(x)
    assert torch.equal(run_section(backbone, "input", "2", x, runtime), expected)


def test_no_gradient_and_no_statistics(backbone, runtime):
    before = {k: v.clone() for k, v in backbone.module.state_dict().items()}
    backbone.module.train()
    z = run_section(backbone, "input", "3", torch.rand(4, 3, 32, 32), runtime)
    assert not z.requires_grad
    for name, tensor in backbone.module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize(("precision", "rtol"), [("folded", 1e-5), ("bfloat16", 0.03)])
def test_faster_precisions_stay_near(backbone, runtime, precision, rtol):
    x = torch.rand(4, 3, 32, 32)
    exact = run_section(backbone, "input", "3", x, runtime)
    fast = run_section(backbone, "input", "3", x, replace(runtime, precision=precision))
    assert float((fast - exact).norm() / exact.norm()) < rtol
    assert (fast.dtype == torch.bfloat16) == (precision == "bfloat16")


def test_sections_are_prepared_once_for_all_forks(backbone, runtime):
    fast = replace(runtime, precision="folded")
    x = torch.rand(4, 3, 32, 32)
    z = run_section(backbone, "input", "1", x, fast)
    prepared = dict(backbone.prepared_sections)
    fork = backbone.fork("2")
    with torch.no_grad():
        fork.module[3][0].weight.zero_()
    assert torch.equal(run_section(fork, "input", "1", x, fast), z)
    assert backbone.prepared_sections == prepared and not fork.prepared_sections
    run_section(fork, "1", "3", z, fast)
    assert list(fork.prepared_sections) == [("1", "3", x.device, "folded", True)]


class Impure(nn.Module):
    """Draws random numbers, counts its calls and depends on the whole batch."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.calls = 0

    def forward(self, x):
        self.count += 1
        self.calls += 1
        drawn = random.random() + np.random.rand() + torch.rand(())  # noqa: NPY002
        return x * drawn + self.count + self.calls + len(x) + x.mean()


@pytest.mark.filterwarnings("ignore:Samples go through Sequential one at a time")
def test_impure_network_gives_the_same_alone_and_in_a_batch():
    backbone = load_backbone(nn.Sequential(nn.Linear(3, 3), Impure(), nn.Linear(3, 2)))
    section = backbone.section("input", "output").freeze()
    x = torch.randn(5, 3)
    whole = run_alone(section, x, section)
    parts = [run_alone(section, row, section) for row in x.split([2, 3])]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(whole.flip(0), run_alone(section, x.flip(0), section))
    assert backbone.module[1].calls == backbone.module[1].count == 0


@pytest.mark.filterwarnings("ignore:Samples go through Sequential one at a time")
def test_state_of_the_whole_network_is_restored():
    backbone = load_backbone(nn.Sequential(nn.Linear(3, 3), Impure(), nn.Linear(3, 2)))
    network = nn.Sequential(backbone.section("0", "output").freeze(), nn.Flatten())
    x = torch.randn(2, 3)
    state = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    run_alone(network, x, network)
    assert backbone.module[1].calls == 0
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == state[1:]  # noqa: NPY002


CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _gains(monkeypatch):
    monkeypatch.setattr(compute._runtime, "gains_by_bfloat16", lambda device: True)


class Fragile(nn.Module):
    """Depends on differences that are too small for bfloat16."""

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


def test_folded_where_features_do_not_stay_near(backbone, caplog):
    network = Fragile(backbone.module)
    fragile = load_backbone(network, preprocessing=backbone.preprocessing)
    with caplog.at_level(logging.INFO, "sktransfer"):
        assert choose_precision(fragile, "auto", CPU) == "folded"
    text = "Fragile is not computed in precision 'bfloat16', which changes its features"
    assert text in caplog.text


def test_float32_where_features_are_nan(backbone, recwarn):
    with torch.no_grad():
        backbone.module[0][0].weight.fill_(float("nan"))
    assert precision_error(backbone, CPU, "bfloat16") == float("inf")
    assert precision_error(backbone, CPU, "folded") == float("inf")
    assert choose_precision(backbone, "auto", CPU) == "float32"
    assert not recwarn  # whatever uses the features says that they are NaN


class Unregistered(nn.Module):
    """Uses the weight of a convolution that is not registered as a submodule."""

    def __init__(self, convolution):
        super().__init__()
        self.kept = [convolution]

    def forward(self, x):
        return x * self.kept[0].weight.sum()


def test_float32_where_a_layer_reads_the_folded_weight(backbone):
    network = copy.deepcopy(backbone.module)
    network[0].append(Unregistered(network[0][0]))
    with torch.no_grad():
        network[0][1].running_var.fill_(4)
    hidden = load_backbone(network, preprocessing=backbone.preprocessing)
    message = (
        r"^The frozen stages of Sequential are computed as they are: folding BatchNorm "
        r"into convolutions would change their activations by \d.*%. Set `precision="
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
    monkeypatch.setattr("sktransfer.activations._engine.precision_error", None)
    assert choose_precision(backbone, "auto", CPU) == expected


def test_vectors_are_computed_in_float32():
    backbone = load_backbone(nn.Linear(3, 2))
    assert choose_precision(backbone, "auto", CPU) == "float32"


def test_shipped_weights_stay_near():
    backbone = load_backbone("efficientnet_lite0")
    assert precision_error(backbone, CPU, "bfloat16") < 0.05
