from contextlib import contextmanager

import pytest
import torch

from sktransfer.compute import own_torch_state


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
