"""Trial runs of users' code under a seed, and comparison of what they return."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sktransfer.compute._draws import drawn_since, generator_states, seeded_everywhere

_SEED = 1  # not that of the trace


def seeded_call(function: Callable, x: Any, *, with_gradients: bool = False) -> Any:
    """Call a function with all generators seeded, and return its output."""
    with _own_seed(), torch.set_grad_enabled(with_gradients):
        return function(x)


def watched_call(function: Callable, x: Any) -> tuple[Any, list[str]]:
    """Call a function with all generators seeded.

    Returns its output, and the names of the libraries whose generators it drew from.
    """
    with _own_seed(), torch.no_grad():
        before, began = generator_states(), time.perf_counter()
        output = function(x)
        drawn, _ = drawn_since(before, time.perf_counter() - began)
    return output, drawn


@contextmanager
def _own_seed() -> Iterator[None]:
    with seeded_everywhere(_SEED), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the code will come when it is used
        yield


def is_near(actual: list, expected: list, tolerance: float) -> bool:
    """Return whether lists of tensors agree, relative to their largest value."""
    if [t.shape for t in actual] != [t.shape for t in expected]:
        return False
    return all(
        _is_near(*pair, tolerance) for pair in zip(actual, expected, strict=True)
    )


def _is_near(a, b, tolerance):
    wide = torch.complex128 if a.is_complex() or b.is_complex() else torch.float64
    a, b = a.detach().to(wide), b.detach().to(wide)
    finite = b[b.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(a, b, rtol=0, atol=tolerance * scale, equal_nan=True)
