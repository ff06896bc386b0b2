from dataclasses import dataclass

import torch

from sktransfer.backbones._states import (
    is_plain,
    is_state,
    n_values,
    shape_of_sample,
    tensors_in,
)


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
