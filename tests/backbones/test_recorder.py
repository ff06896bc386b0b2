import torch
from torch import nn

from sktransfer.backbones._recorder import record
from sktransfer.backbones._tracer import trace_graph


class Item(nn.Module):
    """Has no meaning without values."""

    def forward(self, x):
        return x * x.sum().item()


class LooksUp(nn.Module):
    """Takes small whole numbers, and looks at values."""

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


def test_runs_are_on_two_and_three_samples_on_the_meta_device():
    two, three, output = runs(nn.Linear(4, 2), count=True)
    assert (two.values[output].shape, three.values[output].shape) == ((2, 2), (3, 2))
    assert two.values[output].is_meta
    assert sum(two.multiply_adds.values()) == 2 * 4 * 2


def test_values_that_are_looked_at_differ_between_the_runs():
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
