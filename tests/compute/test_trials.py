"""Trial runs under a seed, and comparison of their results."""

import random
import warnings

import numpy as np
import torch

from sktransfer.compute import is_near, seeded_call, watched_call


def draw(x):
    warnings.warn("from the code itself", stacklevel=1)
    return x + torch.rand(2) + np.random.rand() + random.random()  # noqa: NPY002


def test_seeded_calls_draw_the_same_and_keep_the_users_generators():
    before = torch.get_rng_state(), random.getstate()
    first, second = (seeded_call(draw, torch.zeros(2)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_seeded_call_records_gradients_on_request():
    x = torch.ones(1, requires_grad=True)
    assert not seeded_call(torch.exp, x).requires_grad
    assert seeded_call(torch.exp, x, with_gradients=True).requires_grad


def test_watched_call_names_the_generators():
    _, drawn = watched_call(draw, torch.zeros(2))
    assert {*drawn} == {"torch", "numpy.random", "random"}
    output, drawn = watched_call(torch.exp, torch.zeros(1))
    assert output.item() == 1 and drawn == []


def test_tensors_are_near_relative_to_the_largest_value():
    a = torch.tensor([0.0, 1000.0])
    assert is_near([a + 0.05], [a], 1e-4)
    assert not is_near([a + 0.2], [a], 1e-4)
    assert not is_near([a[None]], [a], 1)
    nan = torch.tensor([torch.nan, torch.inf])
    assert is_near([nan], [nan], 0) and not is_near([nan], [a], 1)


def test_complex_numbers_are_compared_with_their_imaginary_parts():
    a = torch.tensor([1 + 1j])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert is_near([a], [a.clone()], 1e-6)
        assert not is_near([a], [a.conj()], 1e-6)
