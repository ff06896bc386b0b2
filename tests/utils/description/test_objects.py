import array
import collections
import copy
import ctypes
import logging
import random
import threading

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.utils import describe
from sktransfer.utils.description._objects import (
    Unknown,
    has_python_state,
    is_global_generator,
    module_state,
    name_of,
    take_apart,
)


class Refuses:
    def __reduce__(self):
        raise TypeError("secret")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: (i for i in [1]), "generator"),
        (lambda: open(__file__), "TextIOWrapper"),
        (threading.local, "_thread._local"),
        (lambda: memoryview(b"a"), "memoryview"),
        (lambda: ctypes.c_int(1), "ctypes.c_int"),
        (lambda: ctypes.CDLL(None), "ctypes.CDLL"),
        (lambda: np.frompyfunc(lambda x: x, 1, 1), "no module has it under its name"),
        (Refuses, r"Refuses (TypeError: secret)"),
    ],
)
def test_state_hidden_from_python_makes_descriptions_incomplete(make, reason):
    thing = make()
    for holder in (thing, [thing], nn.Sequential(nn.ReLU())):
        if isinstance(holder, nn.Module):
            holder[0].thing = thing
        found = describe(holder)
        assert not found.is_complete and reason in found.reason
    if hasattr(thing, "close"):
        thing.close()


class Answers:
    """Has an attribute of any name."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return 3


class AnswersModule(nn.Module):
    def __getattr__(self, name):
        return 3


@pytest.mark.parametrize("cls", [Answers, AnswersModule])
def test_attributes_that_are_computed_do_not_count(cls):
    first, other = cls(), cls()
    assert describe(first) == describe(other)
    object.__setattr__(other, "by", 2)
    assert describe(first).digest != describe(other).digest


def test_subclasses_of_containers_go_by_content_and_attributes():
    class Own(dict):
        def __getattr__(self, name):
            return self[name]

    def digests(make):
        return [describe(make(by)).digest for by in (1, 1, 2)]

    for make in (
        lambda by: Own(a=by),
        lambda by: collections.OrderedDict(a=by),
        lambda by: collections.defaultdict(list, a=by),
        lambda by: collections.Counter({"a": by}),
        lambda by: collections.deque([by]),
        lambda by: type("Text", (str,), {})(by),
        lambda by: type("Pair", (tuple,), {})([by]),
        lambda by: type("Names", (frozenset,), {})([by]),
        lambda by: type("Bytes", (bytes,), {})([by]),
    ):
        first, same, other = digests(make)
        assert first == same != other


def test_hooks_count_and_their_numbers_do_not():
    def hooked(by):
        layer = nn.ReLU()
        layer.handle = layer.register_forward_hook(lambda m, i, o: o * by)
        return layer

    first, same, other = (describe(hooked(by)).digest for by in (1, 1, 2))
    assert first == same != other


def test_hook_of_all_modules_counts():
    before = describe(nn.ReLU())
    handle = nn.modules.module.register_module_forward_hook(lambda m, i, o: -o)
    try:
        assert describe(nn.ReLU()).digest != before.digest
    finally:
        handle.remove()
    assert describe(nn.ReLU()) == before


def test_mode_gradients_and_device_do_not_count():
    first, other = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    other.eval().requires_grad_(False)
    other.weight.grad = torch.ones(2)
    assert describe(first) == describe(other)


def test_compiled_module_is_what_was_compiled():
    found = [describe(torch.compile(nn.LeakyReLU(by))).digest for by in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_things_of_the_process_are_known_by_name_or_type():
    assert describe(logging.getLogger("a")) == describe(logging.getLogger("a"))
    assert describe(threading.Lock()) == describe(threading.Lock())
    assert describe(object()) == describe(object())


class Slots:
    __slots__ = ("a", "b")


class MoreSlots(Slots):
    __slots__ = ("__dict__", "__weakref__", "c")


class Plain:
    pass


def test_object_consists_of_its_class_attributes_and_slots():
    obj = MoreSlots()
    obj.a, obj.c, obj.d = 1, 2, 3
    assert take_apart(obj) == ["object", MoreSlots, [("a", 1), ("c", 2), ("d", 3)]]
    assert take_apart(Plain()) == ["object", Plain, []]


def test_names():
    assert name_of(Plain) == "`Plain`"
    assert name_of(Plain()) == f"an object of type {__name__}.Plain"


@pytest.mark.parametrize("cls", [object, Plain, Slots, MoreSlots, nn.ReLU, Exception])
def test_state_of_classes_in_python(cls):
    assert has_python_state(cls) is (cls is not Exception)


@pytest.mark.parametrize(
    "cls", [array.array, collections.deque, np.ndarray, torch.Generator, dict, int]
)
def test_state_of_classes_in_c(cls):
    assert not has_python_state(cls)


def test_refusal_to_be_pickled():
    *_, reason = take_apart(Refuses())
    assert type(reason) is Unknown and "Refuses (TypeError: secret)" in reason


def test_order_of_an_ordered_dict_counts():
    first = collections.OrderedDict(a=1, b=2)
    other = collections.OrderedDict(a=1, b=2)
    assert describe(first) == describe(other)
    other.move_to_end("a")
    assert describe(first) != describe(other)


def test_state_of_a_module():
    layer = nn.BatchNorm1d(2).eval()
    before = module_state(layer)
    assert {*before} >= {"eps", "_parameters", "_buffers"}
    assert not {"training", "_modules", "_forward_hooks"} & {*before}
    first = layer.register_forward_hook(print)
    first.remove()
    layer.register_forward_hook(print, with_kwargs=True)
    assert module_state(layer)["_forward_hooks"] == [(print, [True, False])]


def test_generators_of_the_process():
    for generator in (random._inst, np.random.mtrand._rand, torch.default_generator):
        assert is_global_generator(generator)
    assert not is_global_generator(random.Random(0))


def test_a_class_is_the_same_after_a_copy_of_its_object():
    class Plain:
        pass

    before = describe(Plain()).digest
    copy.copy(Plain())
    assert "__slotnames__" in vars(Plain)
    assert describe(Plain()).digest == before
