import torch
from torch import nn

from sktransfer.compute import attributes_restored


class Moves(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("count", torch.zeros(()))
        self.seen, self.calls = [], 0

    def forward(self, x):
        self.count += 1
        self.calls += 1
        self.seen.append(x)
        self.constant_1 = x
        return x * self.weight + self.count


def test_buffers_and_attributes_are_restored():
    module = Moves()
    count, seen = module.count, module.seen
    for _ in range(2):
        with attributes_restored([module, module]):
            assert module.weight is next(module.parameters())
            assert module(torch.zeros(2)).tolist() == [1, 1]
            assert module.calls == len(module.seen) == 1
            assert module.count is not count
    assert module.count is count and module.seen is seen
    assert (count, seen, module.calls) == (0, [], 0)
    assert not hasattr(module, "constant_1")


def test_new_attributes_with_the_prefix_stay():
    module, x = Moves(), torch.zeros(2)
    with attributes_restored([module], keep="constant"):
        module(x)
    assert module.constant_1 is x and module.calls == 0
