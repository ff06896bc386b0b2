import pathlib
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.utils import describe
from sktransfer.utils.description._data import script_parts


def distinct(*things):
    found = [describe(thing) for thing in things]
    assert all(d.is_complete for d in found)
    assert [d.digest for d in found] == [describe(thing).digest for thing in things]
    return len({d.digest for d in found})


def test_numbers_are_described_by_type_and_bits():
    numbers = [1, 1.0, True, np.int64(1), np.float32(1), np.float64(1), 1 + 0j, "1"]
    assert distinct(*numbers, 0.0, -0.0, float("nan"), None, ...) == 13
    assert distinct(complex(0.0, -0.0), complex(0.0, 0.0)) == 2
    assert distinct(10**30, 10**30 + 1) == 2


def test_containers_are_described_by_type_and_order():
    things = [[], (), {}, set(), frozenset(), [[]], [()], [1, [2]], [[1], 2]]
    assert distinct(*things) == len(things)
    assert distinct({1: 2, 3: 4}, {3: 4, 1: 2}) == 2
    assert distinct({"a", "b", "c"}, {"c", "b", "a"}) == 1
    assert distinct(range(3), range(0, 3, 2), slice(3), slice(0, 3)) == 4


def test_cycles_end():
    def cycle(by):
        items = [by]
        items.append({"self": items})
        return items

    assert distinct(cycle(1), cycle(2)) == 2
    first, again = (describe(cycle(1)).digest for _ in range(2))
    assert first == again


def test_set_that_holds_itself_ends():
    class Holder:
        pass

    holder = Holder()
    holder.things = {holder}
    assert describe(holder).is_complete


def test_arrays_are_described_by_content_dtype_and_shape():
    ones = np.ones((2, 3), np.float32)
    columns = np.asfortranarray(ones)
    assert distinct(ones, columns, ones[::1]) == 1
    assert distinct(ones, ones.T, ones.astype(float), ones.astype(">f4"), ones[0]) == 5
    objects = [np.array([a, None], dtype=object) for a in (1, 2, [1])]
    assert distinct(*objects, np.array(["a"]), np.array(["b"])) == 5
    assert distinct(np.zeros(0), np.zeros((0, 3))) == 2
    masked = [np.ma.array([1, 2], mask=[0, by]) for by in (0, 1)]
    assert distinct(*masked, np.array([1, 2])) == 3


def test_memmap_is_described_by_its_content(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    mapped = np.memmap(tmp_path / "file", dtype=np.uint8, mode="r")
    before = describe(mapped)
    assert before.is_complete
    (tmp_path / "file").write_bytes(b"abd")
    changed = np.memmap(tmp_path / "file", dtype=np.uint8, mode="r")
    assert describe(changed).digest != before.digest


def test_attributes_of_a_tensor_count():
    first, other = torch.ones(2), torch.ones(2)
    other.by = 2
    assert distinct(first, other) == 2
    assert distinct(torch.ones(2), nn.Parameter(torch.ones(2))) == 1


def test_lazy_layers_are_described_by_their_settings():
    assert distinct(nn.LazyLinear(2), nn.LazyLinear(3), nn.LazyConv2d(2, 1)) == 3


def test_weak_references_are_described_by_their_referent():
    class Thing:
        def __init__(self, by):
            self.by = by

    things = [Thing(1), Thing(2)]
    assert distinct(*map(weakref.ref, things)) == 2


def test_operators_of_others_are_known_by_name_only():
    assert describe(torch.ops.aten.relu).is_complete
    with torch.library._scoped_library("of_a_test", "DEF") as library:
        library.define("scale(Tensor x) -> Tensor")
        for operator in (torch.ops.of_a_test.scale, torch.ops.of_a_test.scale.default):
            found = describe(operator)
            assert not found.is_complete
            assert found.reason.startswith("the operator `torch.ops.of_a_test.scale")
        inside = describe(lambda x: torch.ops.of_a_test.scale(x))
        assert not inside.is_complete


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_parts_of_a_script_have_no_counts():
    def make(by):
        return torch.jit.trace(nn.Sequential(nn.LeakyReLU(by)), torch.ones(2))

    first, same, other = (script_parts(make(by)) for by in (0.1, 0.1, 0.2))
    assert first == same != other


def test_paths_are_described_by_their_text_and_class():
    class Own(pathlib.PurePosixPath):
        def by(self):
            return 2

    paths = [pathlib.PurePosixPath("a"), pathlib.PurePosixPath("b"), Own("a")]
    assert distinct(*paths, "a") == 4
