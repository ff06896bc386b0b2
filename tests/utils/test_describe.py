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

from sktransfer.utils import describe
from tests.utils._pairs import PAIRS, build

ROOT = Path(__file__).resolve().parents[2]


def complete(thing):
    found = describe(thing)
    assert found.is_complete, found.reason
    return found.digest


@pytest.mark.parametrize("name", PAIRS)
def test_things_differ_that_compute_something_else(name):
    first, same, other = (complete(build(name, k)) for k in (0, 0, 1))
    assert first == same
    assert first != other
    assert len(first) == 32 and int(first, 16)


def test_descriptions_are_the_same_in_another_process():
    code = (
        "import json\nfrom tests.utils._pairs import PAIRS, build\n"
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
