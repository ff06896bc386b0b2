import numpy as np
import pytest
import torch

from sktransfer.inputs._parameters import channel_values, is_length, is_size


@pytest.mark.parametrize("value", [1, 224, np.int64(3)])
def test_lengths(value):
    assert is_length(value) and is_size((value, 1)) and is_size([1, value])


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "2", None])
def test_other_values_are_no_lengths(value):
    assert not is_length(value) and not is_size((value, 1))


@pytest.mark.parametrize("value", [3, (3,), (1, 2, 3), {1, 2}, "12", np.array([1, 2])])
def test_other_values_are_no_sizes(value):
    assert not is_size(value)


@pytest.mark.parametrize(
    "given",
    [
        [1, 2.5],
        (np.float32(1), 2.5),
        np.array([1, 2.5]),
        torch.tensor([1, 2.5], dtype=torch.bfloat16),
        torch.tensor([1, 2.5], requires_grad=True),
    ],
)
def test_values_of_channels_become_plain_floats(given):
    values = channel_values(given)
    assert values == (1.0, 2.5) and {*map(type, values)} == {float}


@pytest.mark.parametrize(
    "given",
    [1, None, [], "12", [1, None], [np.nan, 1], [np.inf], torch.ones(()), np.eye(2)],
)
def test_other_values_of_channels_are_none(given):
    assert channel_values(given) == ()
