from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sktransfer.backbones import load_backbone
from sktransfer.backbones._boundaries import (
    _expression,
    is_plain,
    is_state,
    n_values,
    section_graph,
    shape_of_sample,
    tensors_in,
)
from sktransfer.backbones._trace import trace_network


@dataclass
class Output:
    logits: torch.Tensor


Z, MASK = torch.zeros(2, 5, 3), torch.ones(2, 5, dtype=torch.bool)


def test_tensors_in_containers_are_listed_in_order():
    assert tensors_in([Z, {"a": MASK, "b": 3}, Output(Z)]) == [Z, MASK, Z]
    assert tensors_in(None) == []


def test_state_is_a_tensor_or_a_group_with_the_samples_in_front():
    for state in (Z, {"z": Z, "mask": MASK}):
        assert is_state(state, 2) and not is_state(state, 3)
    for value in ({}, (Z, MASK), {"z": Z, "n": 2}, None, {"z": Z, "m": MASK[:1]}):
        assert not is_state(value, 2)
    assert is_plain(Z) and not is_plain(MASK) and not is_plain({"z": Z})


def test_shapes_are_those_of_one_sample():
    assert shape_of_sample(Z) == (5, 3)
    shapes = {"z": (5, 3), "mask": (5,)}
    assert shape_of_sample({"z": Z, "mask": MASK}) == shapes
    assert shape_of_sample((Z, MASK)) is None
    assert n_values((5, 3)) == 15 and n_values(shapes) == 20


def tiny(cls, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cls().eval()


class Shapes(nn.Module):
    """Uses sizes, the device and the dtype on both sides of boundaries."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 6)
        self.b = nn.Linear(6, 6)
        self.c = nn.Linear(6, 2)

    def forward(self, x):
        n, d = x.shape
        like = {"device": x.device, "dtype": x.dtype}
        x = x + torch.ones(4, **like)
        z = self.b(self.a(x)).reshape(n * 2, 3) + torch.ones(3, **like)
        return self.c(z.view(n, 6)) * d


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_sizes_used_across_a_boundary_follow_the_batch(n):
    backbone = load_backbone(tiny(Shapes))
    x = torch.randn(n, 4)
    for name in ("a", "b"):
        prefix, suffix = backbone.split(name)
        assert_close(suffix(prefix(x)), backbone.module(x))


def test_dtype_used_across_a_boundary_follows_the_activation():
    backbone = load_backbone(tiny(Shapes))
    prefix, suffix = backbone.split("a")
    prefix.double()
    suffix.double()
    out = suffix(prefix(torch.randn(3, 4).double()))
    assert out.dtype == torch.float64


@pytest.mark.parametrize(
    ("two", "three", "expected"),
    [
        (5, 5, ("constant", 5)),
        (2, 3, ("batch", 1)),
        (14, 21, ("batch", 7)),
        (6, 7, None),
        (0.5, 0.75, None),
        ((2, 8), (3, 8), ("tuple", [("batch", 1), ("constant", 8)])),
        ((6, 8), (7, 8), None),
        (torch.float32, torch.float32, ("dtype",)),
        (torch.int64, torch.int64, ("constant", torch.int64)),
        (torch.device("cpu"), torch.device("cpu"), ("device",)),
    ],
)
def test_expression_of_static_value(two, three, expected):
    assert _expression(two, three, torch.zeros(2, 3)) == expected


class Looks(nn.Module):
    """Uses a value of its input beyond a boundary."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        scale = x.max().item()
        return self.b(self.a(x)) * scale


def test_values_used_across_a_boundary_make_it_none():
    trace = trace_network(tiny(Looks), torch.zeros(3, 3))
    assert [trace.nodes[end].name for end in trace.live if end > 0] == ["mul"]


class Integers(nn.Module):
    """Boundaries are floating-point tensors with the batch in front."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 4)
        self.pick = nn.Identity()
        self.turn = nn.Identity()
        self.embed = nn.Embedding(4, 5)
        self.fc = nn.Linear(5, 2)

    def forward(self, x):
        index = self.pick(self.a(x).argmax(1, keepdim=True))
        z = self.embed(index)[:, 0]
        return self.fc(self.turn(z.T).T)


def test_integers_and_tensors_without_the_batch_in_front_are_no_boundary():
    backbone = load_backbone(tiny(Integers))
    with pytest.raises(ValueError, match="no boundary 'pick'"):
        backbone.boundary("pick")
    with pytest.raises(ValueError, match="no boundary 'turn'"):
        backbone.boundary("turn")
    assert backbone.boundary("embed") == "embed"


def test_section_graph_after_the_output_is_the_identity():
    trace = trace_network(nn.Linear(4, 2), torch.zeros(3, 4))
    graph = section_graph(trace, None, None)
    assert [node.op for node in graph.nodes] == ["placeholder", "output"]
