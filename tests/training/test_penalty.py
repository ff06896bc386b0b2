import pickle

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.training import Network
from sktransfer.training._penalty import StartingPoint


@pytest.fixture
def network():
    torch.manual_seed(0)
    suffix = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))
    suffix[2].requires_grad_(False)
    return Network(suffix, nn.Flatten(), nn.Linear(2, 2)).double()


def move(network):
    """Move each parameter by a random step and return the steps by name."""
    steps = {}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            steps[name] = torch.randn_like(parameter)
            parameter += steps[name]
    return steps


PENALISED = ["suffix.0.weight", "suffix.0.bias", "suffix.1.weight", "suffix.1.bias"]


def test_penalty_is_half_the_squared_distance(network):
    start = StartingPoint(network.named_parameters())
    assert list(start.values) == PENALISED
    steps = move(network)
    distances = [np.square(steps[name].numpy()).sum() for name in PENALISED]
    penalty = start.penalty(network)
    assert penalty.shape == () and penalty.item() == pytest.approx(sum(distances) / 2)


def test_penalty_at_the_start_is_zero_with_zero_gradient(network):
    start = StartingPoint(network.named_parameters())
    penalty = start.penalty(network)
    penalty.backward()
    assert penalty.item() == 0.0
    assert not network.suffix[0].weight.grad.any()


def test_gradient_is_the_distance_from_the_start(network):
    start = StartingPoint(network.named_parameters())
    steps = move(network)
    start.penalty(network).backward()
    for name, parameter in network.named_parameters():
        if name in PENALISED:
            torch.testing.assert_close(parameter.grad, steps[name])
        else:
            assert parameter.grad is None, name


def test_gradient_agrees_with_finite_differences(network):
    start = StartingPoint(network.named_parameters())
    move(network)
    start.penalty(network).backward()
    weight = network.suffix[0].weight
    entry, h = (1, 0, 2, 1), 1e-5
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[entry] += sign * h
            values.append(start.penalty(network).item())
            weight[entry] -= sign * h
    slope = (values[0] - values[1]) / (2 * h)
    assert weight.grad[entry].item() == pytest.approx(slope, rel=1e-6)


def test_start_is_a_copy_without_gradient(network):
    start = StartingPoint(network.named_parameters())
    before = network.suffix[0].weight.detach().clone()
    move(network)
    assert torch.equal(start.values["suffix.0.weight"], before)
    assert not any(value.requires_grad for value in start.values.values())


def test_start_follows_the_module(network):
    # A dtype stands for a device here: both go the same way.
    start = StartingPoint(network.named_parameters())
    move(network)
    expected = start.penalty(network).item()
    network.float()
    penalty = start.penalty(network)
    assert penalty.dtype == torch.float32
    assert penalty.item() == pytest.approx(expected, rel=1e-5)
    moved = start.values["suffix.0.weight"]
    start.penalty(network)
    assert start.values["suffix.0.weight"] is moved


def test_descent_on_the_penalty_returns_to_the_start(network):
    start = StartingPoint(network.named_parameters())
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    move(network)
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
    start.penalty(network).backward()
    optimiser.step()
    for name in PENALISED:
        torch.testing.assert_close(dict(network.named_parameters())[name], before[name])


def test_nothing_to_penalise_is_zero():
    network = Network(nn.Identity(), nn.Identity(), nn.Linear(2, 2))
    penalty = StartingPoint(network.named_parameters()).penalty(network)
    assert penalty.shape == () and penalty.item() == 0.0


def test_starting_point_pickles(network):
    start = pickle.loads(pickle.dumps(StartingPoint(network.named_parameters())))
    steps = move(network)
    distances = [np.square(steps[name].numpy()).sum() for name in PENALISED]
    assert start.penalty(network).item() == pytest.approx(sum(distances) / 2)
