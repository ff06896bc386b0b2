from contextlib import contextmanager

import pytest
import torch
from torch import nn

from sktransfer.compute import own_torch_state, state_put_back


@contextmanager
def float64_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CONTEXTS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "device": lambda: torch.device("meta"),
    "dtype": float64_by_default,
}


def state():
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_device(),
        torch.get_default_dtype(),
    )


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_state_is_that_of_a_new_process_and_put_back(context):
    new = state()
    with context():
        users = state()
        assert users != new
        with own_torch_state():
            assert state() == new
        assert state() == users
        assert own_torch_state()(state)() == new
        with pytest.raises(KeyError), own_torch_state():
            raise KeyError
        assert state() == users


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


def test_buffers_and_attributes_are_put_back():
    module = Moves()
    count, seen = module.count, module.seen
    for _ in range(2):
        with state_put_back([module, module]):
            assert module.weight is next(module.parameters())
            assert module(torch.zeros(2)).tolist() == [1, 1]
            assert module.calls == len(module.seen) == 1
            assert module.count is not count
    assert module.count is count and module.seen is seen
    assert (count, seen, module.calls) == (0, [], 0)
    assert not hasattr(module, "constant_1")


def test_some_new_attributes_stay():
    module, x = Moves(), torch.zeros(2)
    with state_put_back([module], keep="constant"):
        module(x)
    assert module.constant_1 is x and module.calls == 0
