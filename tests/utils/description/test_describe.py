import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.utils import TensorDigests, describe, digest, join_key
from sktransfer.utils.description import _describe
from sktransfer.utils.description._describe import process_key
from tests.utils.description._pairs import PAIRS, build

ROOT = Path(__file__).resolve().parents[3]


def complete(thing):
    found = describe(thing)
    assert found.is_complete, found.reason
    return found.digest


@pytest.mark.parametrize("name", PAIRS)
def test_objects_that_compute_different_results_differ(name):
    first, same, other = (complete(build(name, k)) for k in (0, 0, 1))
    assert first == same
    assert first != other
    assert len(first) == 32 and int(first, 16)


def test_descriptions_are_the_same_in_another_process():
    code = (
        "import json\nfrom tests.utils.description._pairs import PAIRS, build\n"
        "from sktransfer.utils import describe\n"
        "import torch\nlayer = torch.nn.ReLU()\nlayer.register_forward_hook(print)\n"
        "found = {name: describe(build(name, 1)).digest for name in reversed(PAIRS)}\n"
        "print(json.dumps(found))"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environ
    )
    found = json.loads(result.stdout)
    assert found == {name: describe(build(name, 1)).digest for name in PAIRS}


PATCHES = {
    "function of a layer": (F, "relu", lambda x, inplace=False: -x),
    "another function of the library": (F, "relu", torch.tanh),
    "partial of a function": (F, "relu", partial(F.leaky_relu, negative_slope=2)),
    "forward of a layer": (nn.ReLU, "forward", lambda self, x: -x),
    "forward of another layer": (nn.ReLU, "forward", nn.Tanh.forward),
    "call of all layers": (nn.Module, "__call__", lambda self, x: -x),
    "new method of a layer": (nn.ReLU, "__call__", lambda self, x: -x),
    "method of tensors": (torch.Tensor, "relu", lambda x: -x),
    "attribute of a layer": (nn.ReLU, "by", 3),
    "version of the library": (torch, "__version__", "9.9"),
}


@pytest.mark.parametrize("name", PATCHES)
def test_layer_of_a_library_that_was_patched_differs(name, monkeypatch):
    before = complete(nn.ReLU())
    monkeypatch.setattr(*PATCHES[name], raising=False)
    patched = complete(nn.ReLU())
    monkeypatch.undo()
    assert patched != before == complete(nn.ReLU())


class Thing:
    def __eq__(self, other):
        return True

    __hash__ = None


def test_key_is_that_of_one_living_object():
    first, other = Thing(), Thing()
    assert process_key(first) == process_key(first) != process_key(other)
    assert len(process_key(first)) == 32
    layer = torch.nn.ReLU()
    assert process_key(layer) == process_key(layer)


def test_process_keys_are_never_reused():
    keys = []
    for _ in range(5):  # objects that may get the same place in memory
        thing = Thing()
        keys.append(process_key(thing))
        del thing
    assert len({*keys}) == 5


def test_key_of_objects_without_weak_references_is_new_each_time():
    items = [1]
    assert process_key(items) != process_key(items)


def test_keys_of_complete_descriptions_are_their_digests():
    found = describe(nn.ReLU())
    assert join_key(found, nn.ReLU()) == found.digest


def test_keys_of_incomplete_descriptions_are_never_reused():
    first, other = (nn.ReLU() for _ in range(2))
    first.file = other.file = (i for i in [1])
    found = describe(first)
    assert found == describe(other) and not found.is_complete
    keys = [join_key(found, first), join_key(found, first), join_key(found, other)]
    assert keys[0] == keys[1] != keys[2]


def test_texts_and_places_are_kept_apart():
    things = (["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["\ud800"], [["abc"]])
    assert len({complete(thing) for thing in things}) == len(things)


def test_one_object_twice_differs_from_two_equal_objects():
    thing = [1]
    assert complete([thing, thing]) != complete([[1], [1]])
    pair = (1, 2)
    assert complete([pair, pair]) == complete([(1, 2), (1, 2)])


def test_depth_of_nesting_is_not_limited_but_for_sets():
    items, members = [], frozenset()
    for _ in range(5000):
        items, members = [items], frozenset([members])
    complete(items)
    assert "objects that are nested too deeply" in describe(members).reason


def test_too_many_parts(monkeypatch):
    monkeypatch.setattr(_describe, "_MAX_PARTS", 3)
    assert describe([1, 2, 3, 4]).reason == "an object of more than 3 parts"
    assert describe([{1}, {2}, {3}]).reason == "an object of more than 3 parts"


def test_hashes_of_tensors_may_be_kept():
    layer, known = nn.Linear(2, 2), TensorDigests()
    before = describe(layer, tensors=known)
    assert before == describe(layer) == describe(layer, tensors=known)
    nn.init.zeros_(layer.bias)
    assert before != describe(layer, tensors=known) == describe(layer)


def test_digest_counts_where_parts_end():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("ab", b"c") == digest(b"ab", "c")
    assert len(digest("x")) == 16
