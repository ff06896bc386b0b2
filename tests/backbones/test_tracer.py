import random

import pytest
import torch
from torch import nn

from sktransfer.backbones._trace import trace_network
from sktransfer.backbones._tracer import TraceError, record, trace_graph


def tiny(make):
    torch.manual_seed(0)
    return make().eval()


class Noisy(nn.Module):
    """Draws random numbers on the CPU whatever the device of the input."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.a(x)) + torch.rand(3)


def test_tracing_does_not_change_the_global_generator_and_the_modes():
    module = nn.Sequential(tiny(Noisy), nn.Linear(3, 3)).eval()
    module[0].drop.train()
    state = torch.get_rng_state()
    trace = trace_network(module, torch.zeros(3, 3), training=True)
    assert not module.training and not module[0].a.training
    assert module[0].drop.training
    assert torch.equal(torch.get_rng_state(), state)
    assert [node.target for node in trace.nodes[1:-1]] == ["0", "1"]


def test_network_that_draws_itself_cannot_be_traced():
    text = "part of it draws random numbers that are no function of x"
    with pytest.raises(TraceError, match=text):
        trace_network(tiny(Noisy), torch.zeros(3, 3))


class BesideAThread(nn.Module):
    """In some of its first calls, another thread draws random numbers."""

    def __init__(self, calls):
        super().__init__()
        self.a, self.calls = nn.Linear(3, 3), calls

    def forward(self, x):
        if self.calls and self.calls.pop():
            random.random()
        return self.a(x)


@pytest.mark.parametrize("within", [False, True])
def test_draws_of_another_thread_are_not_those_of_the_network(within):
    module = BesideAThread([False, True, True, True])
    module = nn.Sequential(module, nn.ReLU()) if within else module
    _, root = trace_graph(module, ())
    assert root.children[0].path == ("0" if within else "a")
    assert [call.path for call in root.children[0].children] == ["0.a"] * within


class Switches(nn.Module):
    """Runs a layer in a context that torch.fx does not record."""

    def __init__(self, context):
        super().__init__()
        self.a, self.context = nn.Linear(3, 3), context

    def forward(self, x):
        with self.context():
            return self.a(x)


@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
    ],
)
def test_layers_within_a_context_stay_whole(context):
    module = nn.Sequential(Switches(context), nn.Linear(3, 3))
    for training in (True, False):
        trace = trace_network(module, torch.zeros(3, 3), training=training)
        targets = [node.target for node in trace.nodes[1:-1]]
        is_recorded = context is torch.no_grad and not training
        assert targets == ["0.a" if is_recorded else "0", "1"]


def test_network_within_a_context_cannot_be_traced():
    text = "part of it switches gradients or autocast on or off"
    with pytest.raises(TraceError, match=text):
        trace_network(Switches(torch.no_grad), torch.zeros(3, 3), training=True)


def test_network_with_hooks_or_a_forward_of_its_own_cannot_be_traced():
    module = nn.Linear(3, 3)
    handle = module.register_forward_pre_hook(lambda module, args: None)
    with pytest.raises(TraceError, match="hooks are registered on the network itself"):
        trace_network(module, torch.zeros(3, 3))
    handle.remove()
    module.forward = lambda x: x
    with pytest.raises(TraceError, match="its `forward` is replaced on the instance"):
        trace_network(module, torch.zeros(3, 3))


class Item(nn.Module):
    """Cannot be run on the meta device, as it reads a value."""

    def forward(self, x):
        return x * x.sum().item()


class LooksUp(nn.Module):
    """Takes small whole numbers, and depends on values."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(1, 2)

    def forward(self, x):
        return self.table(x.long()) * x.sum().item()


def runs(module, *, count=False):
    graph, _ = trace_graph(module, ())
    x = torch.zeros(3, 4)
    two, three = record(module, graph, x, count=count)
    output = list(graph.nodes)[-1]
    return two, three, output


def test_record_runs_two_and_three_samples_on_the_meta_device():
    two, three, output = runs(nn.Linear(4, 2), count=True)
    assert (two.values[output].shape, three.values[output].shape) == ((2, 2), (3, 2))
    assert two.values[output].is_meta
    assert sum(two.multiply_adds.values()) == 2 * 4 * 2


def test_drawn_values_differ_between_the_runs():
    two, three, output = runs(Item())
    (item,) = (n for n in two.values if n.target == "item")
    assert two.values[item] != three.values[item]
    assert not two.values[output].is_meta


def test_network_that_takes_indices_is_run_on_zeros():
    two, _, output = runs(LooksUp())
    assert torch.equal(two.values[output], torch.zeros(2, 4, 2))


def test_nodes_that_are_overwritten_are_recorded():
    two, *_ = runs(nn.Sequential(nn.Identity(), nn.ReLU(inplace=True)))
    ((node, overwritten),) = two.mutations.items()
    assert node.target == "1"
    assert {n.name for n in overwritten} == {"input_1"} or len(overwritten) == 2
