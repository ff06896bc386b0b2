import numpy as np
import pytest
import torch

from sktransfer import utils
from sktransfer.utils import _validation, check_sample_weight, spawn_seed


def test_the_door_is_wide_open():
    assert set(_validation.__all__) <= set(utils.__all__)


def test_check_sample_weight_default_is_one_per_sample():
    np.testing.assert_array_equal(check_sample_weight(None, np.zeros((3, 2))), [1] * 3)


def test_spawn_seed_int_repeats():
    assert spawn_seed(3) == spawn_seed(3)
    assert spawn_seed(3) != spawn_seed(4)


def test_spawn_seed_random_state_advances():
    generator = np.random.RandomState(3)
    first, second = spawn_seed(generator), spawn_seed(generator)
    assert first == spawn_seed(3)
    assert first != second


def test_spawn_seed_none_leaves_the_global_generator_alone():
    before = np.random.mtrand._rand.get_state()[1].copy()
    assert spawn_seed(None) != spawn_seed(None)
    np.testing.assert_array_equal(before, np.random.mtrand._rand.get_state()[1])


def test_spawn_seed_is_an_int_that_torch_accepts():
    seed = spawn_seed(0)
    assert type(seed) is int
    assert 0 <= seed < 2**31 - 1
    assert torch.Generator().manual_seed(seed).initial_seed() == seed


def test_spawn_seed_invalid_random_state_raises():
    with pytest.raises(ValueError, match="'abc' cannot be used to seed"):
        spawn_seed("abc")
