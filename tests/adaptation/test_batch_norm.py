import copy

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.adaptation._batch_norm import (
    find_batch_norms,
    fit_statistics,
    put_back_statistics,
    source_statistics,
)
from sktransfer.backbones import load_backbone
from sktransfer.training import Network

GENERATOR = torch.Generator().manual_seed(0)
SOURCE = torch.randn(50, 3, 4, 4, generator=GENERATOR)
TARGET = 3 * torch.randn(40, 3, 4, 4, generator=GENERATOR) + 2


def make_network():
    torch.manual_seed(0)
    suffix = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    for layer in (suffix[0], suffix[2]):
        nn.init.uniform_(layer.running_mean)
        nn.init.uniform_(layer.running_var, 0.5, 2)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Network(suffix, pool, nn.Linear(5, 2)).eval()


def moments(x):
    return x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)


def adapted(batch_size=16, target=TARGET, network=None):
    network = make_network() if network is None else network
    statistics = source_statistics(network, SOURCE, batch_size)
    fit_statistics(network, target, batch_size, statistics)
    return network


def test_find_batch_norms_leaves_out_what_keeps_no_statistics():
    module = nn.Sequential(
        nn.BatchNorm1d(2), nn.LayerNorm(2), nn.BatchNorm2d(2, track_running_stats=False)
    )
    assert [*find_batch_norms(module)] == ["0"]


def test_source_statistics_are_those_of_what_comes_in():
    network = make_network()
    found = source_statistics(network, SOURCE, 16)
    second = network.suffix[:2](SOURCE).detach()
    for name, x in [("suffix.0", SOURCE), ("suffix.2", second)]:
        mean, var = moments(x)
        layer = network.get_submodule(name)
        expected = {"mean": mean, "var": var, "running_mean": layer.running_mean}
        for key, value in {**expected, "running_var": layer.running_var}.items():
            assert found[name][key].dtype == np.float64
            np.testing.assert_allclose(found[name][key], value, rtol=1e-5, atol=1e-6)


def test_source_statistics_come_in_the_order_of_execution():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            self.unused = nn.BatchNorm2d(3)

        def forward(self, x):
            return self.last(self.first(x))

    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = Network(Backwards(), pool, nn.Linear(3, 2)).eval()
    found = source_statistics(network, SOURCE, 16)
    assert [*found] == ["suffix.first", "suffix.last"]
    fit_statistics(network, TARGET, 16, found)
    assert network(TARGET).isfinite().all()


def test_put_back_statistics_undoes_an_adaptation():
    network, before = make_network(), make_network().state_dict()
    statistics = source_statistics(network, SOURCE, 16)
    put_back_statistics(adapted(network=network), statistics)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_measuring_changes_nothing():
    network = make_network()
    before = copy.deepcopy(network.state_dict())
    source_statistics(network, SOURCE, 16)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not any(layer._forward_pre_hooks for layer in network.modules())


@pytest.mark.parametrize("batch_size", [40, 7, 1])
def test_output_of_the_target_has_the_moments_of_the_source(batch_size):
    expected = moments(make_network().suffix(SOURCE))
    found = moments(adapted(batch_size).suffix(TARGET))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_statistics_do_not_depend_on_batches():
    other = adapted(7).state_dict()
    for name, value in adapted(40).state_dict().items():
        torch.testing.assert_close(value, other[name])


def test_statistics_are_the_targets_own_if_they_were_the_sources_own():
    network = make_network()
    for name, of_source in source_statistics(network, SOURCE, 16).items():
        layer = network.get_submodule(name)
        layer.running_mean.copy_(torch.from_numpy(of_source["mean"]))
        layer.running_var.copy_(torch.from_numpy(of_source["var"]))
    mean, var = moments(TARGET)
    first = adapted(network=network).suffix[0]
    torch.testing.assert_close(first.running_mean, mean)
    torch.testing.assert_close(first.running_var, var, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch_size", [50, 16, 3])
def test_equal_domains_change_nothing(batch_size):
    network, before = adapted(batch_size, target=SOURCE), make_network()
    for name, value in before.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value)


@pytest.mark.parametrize("constant", ["source", "target"])
def test_channels_that_never_change_stay_finite(constant):
    source, target = SOURCE.clone(), TARGET.clone()
    (source if constant == "source" else target)[:, 1] = 0.5
    network = make_network()
    fit_statistics(network, target, 16, source_statistics(network, source, 16))
    assert network(target).isfinite().all()


class Shares(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm, self.last = nn.BatchNorm1d(4), nn.BatchNorm1d(4)

    def forward(self, x):
        return self.last(self.c(self.norm(self.b(self.norm(self.a(x))))))


def test_norms_that_frozen_stages_share_are_left_out():
    suffix = load_backbone(Shares(), random_state=0).section("b", "output")
    assert list(find_batch_norms(suffix)) == ["norm", "last"]
    suffix.fixed_shared = True
    assert list(find_batch_norms(suffix)) == ["last"]
