import pytest
import torch
from torch import nn

from sktransfer.backbones._anatomy import Anatomy, find_anatomies
from sktransfer.backbones._trace import trace_network


def anatomies(module, classifier=None):
    example = torch.zeros(3, 4)
    traces = {m: trace_network(module, example, training=m) for m in (False, True)}
    return find_anatomies(traces, module, classifier)


class Network(nn.Module):
    """Two layers with reserved names; the graphs differ if `shift` is not 0."""

    def __init__(self, shift=0, wrap=lambda z: z):
        super().__init__()
        self.input = nn.Linear(4, 5)
        self.output = nn.Linear(5, 6)
        self.last = nn.Linear(6, 2)
        self.shift = shift
        self.wrap = wrap

    def forward(self, x):
        x = self.input(x)
        x = x * 2 if self.training and self.shift else x
        return self.wrap(self.last(self.output(x)))


@pytest.mark.parametrize("shift", [0, 1])
def test_anatomies_of_both_modes_have_the_same_names(shift):
    found = anatomies(Network(shift))
    assert all(isinstance(anatomy, Anatomy) for anatomy in found.values())
    assert found[False].ends.keys() == found[True].ends.keys()
    assert found[False].ends["input_"] == found[True].ends["input_"]
    moved = found[True].ends["output_"] - found[False].ends["output_"]
    assert moved == shift
    assert [stage.name for stage in found[True].stages] == ["input_", "output_", "last"]
    assert list(found[True].listed) == ["input_", "output_", "last"]


def test_features_are_in_front_of_the_classifier_or_else_the_output():
    ends = anatomies(Network())[False].ends
    assert (ends["features"], ends["output"], ends["input"]) == (None, None, -1)
    ends = anatomies(Network(), classifier=["last"])[False].ends
    assert ends["features"] == ends["output_"]


def test_features_of_a_network_that_returns_no_tensor():
    found = anatomies(Network(wrap=lambda z: (z, z)))[False]
    assert found.ends["features"] == found.ends["last"]
    assert found.ends["output"] is None


def test_network_without_a_boundary_is_a_stage_if_it_returns_a_tensor():
    (stage,) = anatomies(nn.Sequential(nn.ReLU()))[False].stages
    assert (stage.name, stage.end) == ("network", None)
    assert anatomies(nn.Sequential(nn.LSTM(4, 3)))[False].stages == []
