import operator

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sktransfer.backbones import load_backbone
from sktransfer.backbones._trace import trace_declared, trace_network
from sktransfer.backbones._tracer import Call, TraceError
from sktransfer.inputs import ImagePreprocessing, VectorPreprocessing

SMALL = ImagePreprocessing(
    size=(8, 8), resize=8, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3
)


class Net(nn.Module):
    """Three convolutions; a subclass defines what is computed between them."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.c = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.between(x).mean((2, 3)))


class Dead(Net):
    """Results of in-place operations are not used."""

    def between(self, x):
        x = self.a(x)
        x.relu_()
        x = self.b(x)
        torch.relu_(x)
        return self.c(x)


class DeadLayer(Net):
    def between(self, x):
        x = self.a(x)
        self.relu(x)
        return self.c(self.b(x))


class Residual(Net):
    """The residual is overwritten by the in-place activation."""

    def between(self, x):
        x = self.a(x)
        return self.c(self.b(self.relu(x)) + x)


class ResidualFunction(Net):
    def between(self, x):
        x = self.a(x)
        y = torch.nn.functional.relu(x, inplace=True)
        return self.c(self.b(y) + x)


class Augmented(Net):
    def between(self, x):
        x = self.a(x)
        y = x
        y += 1
        return self.c(self.b(y) + x)


class View(Net):
    def between(self, x):
        x = self.a(x)
        x.flatten(1).mul_(0.5)
        return self.c(self.b(x))


class OnInput(Net):
    def between(self, x):
        x -= 0.5
        x.mul_(2.0)
        return self.c(self.b(self.relu(self.a(x))))


class Plain(Net):
    def between(self, x):
        x = self.relu(self.a(x))
        x += 1
        y = self.b(x)
        y *= 2
        return self.c(torch.nn.functional.relu(y, inplace=True))


INPLACE = [
    Dead,
    DeadLayer,
    Residual,
    ResidualFunction,
    Augmented,
    View,
    OnInput,
    Plain,
]


def tiny(cls, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cls().eval()


@torch.no_grad()
@pytest.mark.parametrize("cls", INPLACE)
def test_inplace_operations_change_nothing_at_boundaries(cls):
    module = tiny(cls)
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = module(x.clone())
    backbone = load_backbone(module, preprocessing=SMALL)
    ends = [*"abc", "fc"]  # of these, those that are boundaries
    inside = [n for n in ends if n in backbone._staged_graph.ends]
    assert "c" in inside
    for boundary in ["input", *inside]:
        prefix, suffix = backbone.split(boundary)
        kept = x.clone()
        z = prefix(x)
        before = z.clone()
        assert_close(suffix(z), expected, msg=boundary)
        assert torch.equal(z, before), boundary
        assert torch.equal(x, kept), boundary
    assert_close(backbone.module(x.clone()), expected)


def test_inplace_layers_are_replaced_only_if_the_old_value_is_unread():
    plain = load_backbone(tiny(Plain), preprocessing=SMALL)
    residual = load_backbone(tiny(Residual), preprocessing=SMALL)
    assert plain.boundary("a") == "a"
    assert plain.module.relu.inplace is False
    assert residual.module.relu.inplace is True
    with pytest.raises(ValueError, match="no boundary 'a'"):
        residual.boundary("a")


def test_inplace_functions_become_out_of_place():
    trace = trace_network(tiny(Plain), SMALL.example(3))
    targets = [node.target for node in trace.nodes]
    assert operator.add in targets and operator.iadd not in targets
    assert operator.mul in targets and operator.imul not in targets
    assert trace.overwritten == set()


class Counts(nn.Module):
    """A composite layer that updates statistics."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 4, 1)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        x = self.inner(x)
        if self.training:
            self.calls.add_(1)
            self.mean.mul_(0.9).add_(0.1 * x.detach().mean((0, 2, 3)))
        return x - self.mean.view(-1, 1, 1) * 2


class Statistics(nn.Module):
    def __init__(self):
        super().__init__()
        self.count = Counts()
        self.conv = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.conv(self.count(x)).mean((2, 3)))


@torch.no_grad()
def test_buffers_that_forward_changes_are_changed_when_it_runs_only():
    backbone = load_backbone(tiny(Statistics), preprocessing=SMALL)
    reference = tiny(Statistics)
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    _, suffix = backbone.split("input")
    prefix, rest = backbone.split("conv")
    assert backbone.module.count.calls == 0, "tracing has run the network"

    assert_close(suffix.train()(x), reference.train()(x))
    assert_close(suffix(x), reference(x))
    assert backbone.module.count.calls == 2
    assert_close(backbone.module.count.mean, reference.count.mean)

    kept = backbone.module.count.mean.clone()
    rest.train()(prefix.freeze().train()(x))
    assert torch.equal(backbone.module.count.mean, kept)
    # What is computed from a buffer is not frozen as it was when traced.
    assert_close(rest.eval()(prefix(x)), reference.eval()(x))


class OnValue(nn.Module):
    """Cannot be traced."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)

    def forward(self, x):
        return self.lin(x) if x.sum() > 0 else x


class Partly(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.middle = nn.Sequential(OnValue(), nn.ReLU())
        self.last = nn.Linear(4, 4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.last(self.middle(self.first(x)).relu()))


def test_submodule_that_cannot_be_traced_stays_whole():
    backbone = load_backbone(tiny(Partly))
    x = torch.randn(5, 4)
    for name in ("first", "middle.0", "middle.1", "last"):
        prefix, suffix = backbone.split(name)
        assert_close(suffix(prefix(x)), backbone.module(x))
    assert backbone.stage_names[0] == "first"
    with pytest.raises(ValueError, match="has no boundary 'middle.0.lin'"):
        backbone.boundary("middle.0.lin")


class Record:
    """A value that a graph cannot hold."""

    def __init__(self, x):
        self.x = x


class Opens(nn.Module):
    def forward(self, record):
        return record.x * 2


class Wraps(nn.Module):
    def __init__(self):
        super().__init__()
        self.opens = Opens()
        self.lin = nn.Linear(4, 4)

    def forward(self, x):
        return self.lin(self.opens(Record(x)))


def test_leaf_that_cannot_be_called_keeps_what_calls_it_whole():
    module = nn.Sequential(nn.Linear(4, 4), Wraps(), nn.Linear(4, 2))
    backbone = load_backbone(module)
    x = torch.randn(3, 4)
    prefix, suffix = backbone.split("1")
    assert_close(suffix(prefix(x)), module(x))
    with pytest.raises(ValueError, match="has no boundary '1.lin'"):
        backbone.boundary("1.lin")


def test_trace_network_that_cannot_be_traced():
    with pytest.raises(TraceError, match="symbolically traced variables"):
        trace_network(tiny(OnValue), torch.zeros(3, 4))


def test_trace_network_that_cannot_be_run():
    with pytest.raises(TraceError, match="RuntimeError: .*shape"):
        trace_network(nn.Linear(4, 2), torch.zeros(3, 5))


class Mask(nn.Module):
    """Has a second argument and makes a constant tensor in its forward method."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.b = nn.Linear(3, 3)

    def forward(self, x, mask=None):
        x = self.a(x) * torch.tensor([1.0, 2.0, 3.0])
        return self.b(x if mask is None else x * mask)


def test_other_arguments_keep_their_defaults():
    module = tiny(Mask)
    backbone = load_backbone(module)
    x = torch.randn(3, 3)
    prefix, suffix = backbone.split("a")
    assert_close(suffix(prefix(x)), module(x))


class Remembers(nn.Module):
    """Stores results in a cache by device and as an attribute."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 2)
        self.cache, self.last = {}, None

    def forward(self, x):
        key = str(x.device)
        if key not in self.cache:
            self.cache[key] = self.a.weight.exp()
        self.last = self.a(x)
        return self.b(self.last @ self.cache[key])


@torch.no_grad()
def test_tracing_leaves_nothing_in_what_a_network_keeps():
    module = tiny(Remembers)
    expected = module(torch.ones(5, 3))
    cache, last = dict(module.cache), module.last
    backbone = load_backbone(module)
    assert backbone.stage_names == ["a", "b"]
    assert backbone.module.cache.keys() == cache.keys()
    assert torch.equal(backbone.module.last, last)
    prefix, suffix = backbone.split("a")
    assert torch.equal(suffix(prefix(torch.ones(5, 3))), expected)


def test_trace_of_a_small_network():
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    trace = trace_network(module, VectorPreprocessing(4).example(3))
    assert [node.op for node in trace.nodes] == [
        "placeholder",
        *["call_module"] * 3,
        "output",
    ]
    assert trace.ends == {"0": 1, "1": 2, "2": 3}
    assert trace.shapes == {0: (4,), 1: (6,), 2: (6,), 3: (2,), 4: (2,)}
    assert list(trace.live) == [-1, 0, 1, 2, 3]
    assert trace.multiply_adds == {0: 0, 1: 24, 2: 0, 3: 12, 4: 0}
    (root,) = trace.calls
    assert root.children == [Call("0", 1, 1), Call("1", 2, 2), Call("2", 3, 3)]


def test_module_called_twice_ends_no_boundary():
    shared = nn.Linear(4, 4)
    module = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(4, 2))
    trace = trace_network(module, torch.zeros(3, 4))
    assert trace.ends == {"1": 2, "3": 4}


@pytest.mark.parametrize(
    ("module", "returned"),
    [(nn.Linear(3, 2), torch.Tensor), (nn.LSTM(3, 2), tuple)],
)
def test_type_of_what_a_network_returns(module, returned):
    trace = trace_network(nn.Sequential(module), torch.zeros(3, 3))
    assert isinstance(trace.returned, returned)
    assert trace.returns_tensor is (returned is torch.Tensor)


def test_declared_network_is_described_like_a_traced_one():
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).train()
    example = VectorPreprocessing(4).example(3)
    declared = trace_declared(module, ["0", "1", "2"], example)
    traced = trace_network(module, example)
    assert module.training
    assert declared.shapes == traced.shapes
    assert declared.multiply_adds == traced.multiply_adds
    assert list(declared.live) == [-1, 1, 2, 3]
    assert declared.returns_tensor and declared.calls == []


def test_declared_network_that_cannot_be_run():
    with pytest.raises(TraceError, match="RuntimeError: .*shapes"):
        trace_declared(nn.Sequential(nn.Linear(4, 6)), ["0"], torch.zeros(3, 5))
