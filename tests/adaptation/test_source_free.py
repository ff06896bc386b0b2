import copy
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy
from skorch.callbacks import Callback
from torch import nn
from torch.autograd import gradcheck

from sktransfer.adaptation import SHOT
from sktransfer.adaptation._source_free import (
    _scaled,
    centroid_labels,
    find_batch_norms,
    fit_statistics,
    information_loss,
    source_statistics,
)
from sktransfer.backbones import load_backbone
from sktransfer.training import (
    AdaptationContext,
    Network,
    cross_entropy,
)
from tests._recipes import resolved_recipe

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


def test_adapting_again_starts_from_the_source():
    network, twin = make_network(), make_network()
    statistics = source_statistics(network, SOURCE, 16)
    fit_statistics(network, 2 * TARGET, 16, statistics)
    for one in (network, twin):
        fit_statistics(one, TARGET, 16, statistics)
    states = network.state_dict(), twin.state_dict()
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())


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


def test_batch_norms_shared_with_frozen_stages_are_left_out():
    suffix = load_backbone(Shares(), random_state=0).section("b", "output")
    assert list(find_batch_norms(suffix)) == ["norm", "last"]
    suffix.fixed_shared = True
    assert list(find_batch_norms(suffix)) == ["last"]


# SHOT

Z = torch.randn(30, 5, generator=GENERATOR)
SCORES = 2 * torch.randn(9, 3, generator=GENERATOR, dtype=torch.float64)
CERTAIN = 100 * torch.eye(3, dtype=torch.float64).repeat(2, 1)


def context_of(network, target=Z, callbacks=()):
    return AdaptationContext(
        network=network,
        backbone_name="tiny",
        boundary="input",
        source=None,
        source_seen=None,
        target=target,
        target_views=target,
        target_digests=[bytes([i]) for i in range(len(Z))],
        n_outputs=3,
        is_multilabel=False,
        state=None,
        recipe=resolved_recipe(
            max_epochs=3, lr=0.1, backbone_lr_ratio=0.5, batch_size=10
        ),
        device=torch.device("cpu"),
        batch_size=10,
        seed=0,
        stages_above={},
        nonlinearity=None,
        callbacks=callbacks,
        adapter=lambda suffix: nullcontext(),
    )


class Look(Callback):
    """Record the labels of each epoch."""

    def __init__(self):
        self.labels = []

    def __sklearn_clone__(self):
        return self

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        self.labels.append(dataset_train.y.clone())


def test_shot_relabels_before_each_epoch_and_leaves_the_head():
    torch.manual_seed(0)
    network = Network(nn.Linear(5, 4), nn.Identity(), nn.Linear(4, 3))
    before = [p.detach().clone() for p in network.head.parameters()]
    with torch.no_grad():
        expected = centroid_labels(network.describe(Z), network(Z))
    look = Look()
    net = SHOT().after_training(context_of(network, callbacks=[look])).net
    assert len(look.labels) == len(net.history) == 3
    assert torch.equal(look.labels[0], expected)
    assert not torch.equal(look.labels[0], look.labels[2])
    for parameter, kept in zip(network.head.parameters(), before, strict=True):
        assert torch.equal(parameter, kept) and parameter.requires_grad
    held = [getattr(c, "activations", None) for _, c in net.callbacks_]
    assert not any(activations is not None for activations in held)


def test_shot_does_nothing_without_a_target():
    network = Network(nn.Linear(5, 4), nn.Identity(), nn.Linear(4, 3))
    assert SHOT().after_training(context_of(network, target=None)) is None


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_pseudo_labels_have_the_published_weight(weight):
    scores, y = SCORES[:6], torch.arange(6) % 3
    found = _scaled(scores, y, factor=0.3 * weight)
    torch.testing.assert_close(found, 0.3 * weight * cross_entropy(scores, y))


def test_information_loss_is_that_of_the_formula():
    assert gradcheck(information_loss, SCORES.clone().requires_grad_())
    p = softmax(SCORES.numpy(), axis=1)
    expected = scipy_entropy(p, axis=1).mean() - scipy_entropy(p.mean(0))
    assert information_loss(SCORES).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [(CERTAIN, -math.log(3)), (CERTAIN[:1], 0.0), (torch.zeros(4, 3), 0.0)],
    ids=["certain and diverse", "certain of one class", "knows nothing"],
)
def test_information_loss_has_known_values(scores, expected):
    assert information_loss(scores).item() == pytest.approx(expected, abs=1e-6)


def test_centroids_correct_a_biased_prediction():
    truth = torch.arange(60) % 3
    directions = torch.tensor([[4.0, 0], [0, 4], [-4, -4]])
    features = directions[truth] + 0.3 * torch.randn(60, 2, generator=GENERATOR)
    scores = features @ directions.T / 8 + torch.tensor([2.5, 0, 0])
    assert (scores.argmax(1) == truth).double().mean() < 0.9
    assert torch.equal(centroid_labels(features, scores), truth)


def test_centroids_are_those_of_numpy():
    features = torch.randn(9, 4, generator=GENERATOR, dtype=torch.float64)
    x = np.c_[features, np.ones(9)]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    shares = softmax(SCORES.numpy(), axis=1)
    for _ in range(2):
        centroids = shares.T @ x
        norms = np.linalg.norm(centroids, axis=1)
        labels = (x @ centroids.T / np.where(norms, norms, 1)).argmax(1)
        shares = np.eye(3)[labels]
    assert centroid_labels(features, SCORES).tolist() == labels.tolist()


def test_classes_without_nearest_samples_are_left_out():
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    scores = torch.tensor([[9.0, 0, -50], [9.0, 0, -50], [0.0, 9, -50]])
    assert centroid_labels(features, scores, n_rounds=3).tolist() == [0, 0, 1]
