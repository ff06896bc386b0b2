import array
import collections
import random

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.utils._object_state import (
    has_python_state,
    hooks_for_all_modules,
    is_global_generator,
    module_state,
    refuses_pickling,
    script_parts,
    slots_of,
)


class Slots:
    __slots__ = ("a", "b")


class MoreSlots(Slots):
    __slots__ = ("__dict__", "__weakref__", "c")


class Plain:
    pass


def test_slots_of_all_classes():
    obj = MoreSlots()
    obj.a, obj.c, obj.d = 1, 2, 3
    assert slots_of(obj) == {"a": 1, "c": 2}
    assert slots_of(Plain()) == {}


@pytest.mark.parametrize("cls", [object, Plain, Slots, MoreSlots, nn.ReLU, Exception])
def test_state_of_classes_in_python(cls):
    assert has_python_state(cls) is (cls is not Exception)


@pytest.mark.parametrize(
    "cls", [array.array, collections.deque, np.ndarray, torch.Generator, dict, int]
)
def test_state_of_classes_in_c(cls):
    assert not has_python_state(cls)


def test_refusal_to_be_pickled():
    class Refuses:
        def __reduce__(self):
            raise TypeError("secret")

    assert str(refuses_pickling(Refuses())) == "secret"
    assert refuses_pickling(Plain()) is None
    assert refuses_pickling(collections.deque()) is None


def test_state_of_a_module():
    layer = nn.BatchNorm1d(2).eval()
    before = module_state(layer)
    assert {*before} >= {"eps", "_parameters", "_buffers"}
    assert not {"training", "_modules", "_forward_hooks"} & {*before}
    first = layer.register_forward_hook(print)
    first.remove()
    layer.register_forward_hook(print, with_kwargs=True)
    assert module_state(layer)["_forward_hooks"] == [(print, [True, False])]


def test_hooks_of_all_modules():
    assert hooks_for_all_modules() == {}
    handle = nn.modules.module.register_module_forward_hook(print)
    try:
        assert [*hooks_for_all_modules().values()] == [[print]]
    finally:
        handle.remove()


def test_generators_of_the_process():
    for generator in (random._inst, np.random.mtrand._rand, torch.default_generator):
        assert is_global_generator(generator)
    assert not is_global_generator(random.Random(0))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_parts_of_a_script_have_no_counts():
    def make(by):
        return torch.jit.trace(nn.Sequential(nn.LeakyReLU(by)), torch.ones(2))

    first, same, other = (script_parts(make(by)) for by in (0.1, 0.1, 0.2))
    assert first == same != other
