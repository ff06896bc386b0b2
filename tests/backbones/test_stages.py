from itertools import pairwise

import pytest
import torch
from torch import nn

from sktransfer.backbones import Stage, load_backbone
from sktransfer.backbones._stages import (
    StagedGraph,
    _find_classifier,
    _find_stages,
    find_staged_graphs,
)
from sktransfer.backbones._trace import trace_network
from sktransfer.inputs import ImagePreprocessing

SMALL = ImagePreprocessing(
    size=(16, 16), resize=16, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3
)


def mlp(*widths):
    layers = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def named(**layers):
    module = nn.Sequential()
    for name, layer in layers.items():
        module.add_module(name, layer)
    return module


def test_stages_of_resnet18_have_their_blocks(resnet18):
    assert [(s.name, s.blocks) for s in resnet18.stages] == [
        ("stem", ("conv1", "bn1", "relu")),
        ("layer1", ("layer1.0",)),
        ("layer2", ("layer2.0",)),
        ("layer3", ("layer3.0",)),
        ("layer4", ("layer4.0",)),
    ]
    assert resnet18.stages[0].end < resnet18.stages[1].end


def test_stages_of_mlp_are_its_layers():
    backbone = load_backbone(mlp(5, 8, 8, 8, 3))
    assert backbone.stage_names == ["stem", "2", "4", "6"]
    assert [stage.blocks for stage in backbone.stages] == [("0",), (), (), ()]


def test_layer_without_weights_belongs_to_the_stage_before_it():
    backbone = load_backbone(mlp(5, 8, 8, 3))
    prefix, _ = backbone.split(1)
    assert (prefix(torch.randn(20, 5)) >= 0).all(), "the activation is left out"


def test_convolutions_of_one_size_are_one_stage():
    def block(a, b):
        return [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]

    module = nn.Sequential(
        *block(3, 4),
        *block(4, 4),
        nn.MaxPool2d(2),
        *block(4, 8),
        *block(8, 8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    backbone = load_backbone(module, preprocessing=SMALL)
    assert [s.name for s in backbone.stages][:2] == ["stem", "7"]
    assert backbone.activation_shape("stem") == (4, 8, 8)
    assert backbone.stages[1].blocks == ("5", "6", "8", "9")


@pytest.mark.parametrize("name", ["fc", "classifier", "head", "output"])
def test_classifier_is_no_stage(name):
    module = named(a=nn.Linear(3, 4), r=nn.ReLU(), **{name: nn.Linear(4, 2)})
    backbone = load_backbone(module)
    assert backbone.stage_names == ["a"]
    assert backbone.activation_shape("features") == (4,)


def test_features_of_a_network_without_classifier_are_its_output():
    module = named(a=nn.Linear(3, 4), r=nn.ReLU(), b=nn.Linear(4, 2))
    backbone = load_backbone(module)
    assert backbone.stage_names == ["stem", "b"]
    assert backbone.activation_shape("features") == (2,)
    x = torch.randn(4, 3)
    prefix, suffix = backbone.split("features")
    assert torch.equal(prefix(x), module(x))
    assert torch.equal(suffix(prefix(x)), module(x))


def test_find_classifier_by_name_and_by_given_paths():
    module = named(a=nn.Linear(3, 4), r=nn.ReLU(), head=nn.Linear(4, 2))
    trace = trace_network(module, torch.zeros(3, 3))
    assert _find_classifier(trace, module) == 3
    assert _find_classifier(trace, module, ["a", "head"]) == 1
    assert _find_classifier(trace, module, ["nothing"]) is None
    relu = nn.Sequential(nn.ReLU())
    assert _find_classifier(trace_network(relu, torch.zeros(3, 3)), relu) is None


def test_find_stages_does_not_go_beyond_the_limit():
    module = mlp(3, 4, 4, 2)
    trace = trace_network(module, torch.zeros(3, 3))
    stages = _find_stages(trace, module, trace.live.keys(), 4)
    assert [stage.name for stage in stages] == ["stem", "2"]
    assert stages[-1].end == 4


def test_network_without_weights_is_one_stage():
    backbone = load_backbone(nn.Sequential(nn.ReLU()), n_features=3)
    assert backbone.stages == [Stage("network", (), None)]
    prefix, suffix = backbone.split(1)
    x = torch.randn(2, 3)
    assert torch.equal(suffix(prefix(x)), x.relu())
    assert torch.equal(prefix(x), x.relu())


def test_submodules_named_like_boundaries_get_an_underscore():
    module = named(
        input=nn.Linear(3, 4),
        features=nn.Linear(4, 4),
        output=nn.Linear(4, 5),
        last=nn.Linear(5, 2),
    )
    backbone = load_backbone(module)
    assert backbone.stage_names == ["input_", "features_", "output_", "last"]
    x = torch.randn(4, 3)
    for k in range(5):
        prefix, suffix = backbone.split(k)
        assert torch.allclose(suffix(prefix(x)), module(x))
    assert torch.equal(backbone.split("input")[0](x), x)
    assert torch.equal(backbone.split("output")[0](x), module(x))
    assert backbone.activation_shape("input_") == (4,)
    assert backbone.activation_shape("output_") == (5,)


def staged_graphs(module, classifier=None):
    example = torch.zeros(3, 4)
    traces = {m: trace_network(module, example, training=m) for m in (False, True)}
    return find_staged_graphs(traces, module, classifier)


class Network(nn.Module):
    """Two layers with reserved names; graphs of modes differ if `shift` is not 0."""

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
def test_graphs_of_both_modes_have_the_same_boundaries(shift):
    found = staged_graphs(Network(shift))
    assert all(isinstance(staged, StagedGraph) for staged in found.values())
    assert found[False].ends.keys() == found[True].ends.keys()
    assert found[False].ends["input_"] == found[True].ends["input_"]
    moved = found[True].ends["output_"] - found[False].ends["output_"]
    assert moved == shift
    assert [stage.name for stage in found[True].stages] == ["input_", "output_", "last"]
    assert list(found[True].listed) == ["input_", "output_", "last"]


def test_features_are_in_front_of_the_classifier_or_else_the_output():
    ends = staged_graphs(Network())[False].ends
    assert (ends["features"], ends["output"], ends["input"]) == (None, None, -1)
    ends = staged_graphs(Network(), classifier=["last"])[False].ends
    assert ends["features"] == ends["output_"]


def test_features_of_a_network_that_returns_no_tensor():
    found = staged_graphs(Network(wrap=lambda z: (z, z)))[False]
    assert found.ends["features"] == found.ends["last"]
    assert found.ends["output"] is None


def test_network_without_a_boundary_is_a_stage_if_it_returns_a_tensor():
    (stage,) = staged_graphs(nn.Sequential(nn.ReLU()))[False].stages
    assert (stage.name, stage.end) == ("network", None)
    assert staged_graphs(nn.Sequential(nn.LSTM(4, 3)))[False].stages == []
