import io
import operator
import os
import random
import sqlite3
import subprocess
import sys
import time
import types

import numpy as np
import pandas as pd
import pytest
import safetensors
import torch
from torch.nn import functional as F
from torchvision.io import read_image

from sktransfer.utils import describe
from sktransfer.utils.description._code import (
    names_of,
    reads,
    reason_against,
    resolve_imports,
)

TABLE = {"by": 1}


def reads_the_environment(x):
    import os

    return x * float(os.environ["BY"])


def draws(x):
    return x * random.random() + np.random.rand() + torch.rand(1)  # noqa: NPY002


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: eval("x"), "eval"),
        (lambda x: exec("x"), "exec"),
        (lambda x: globals()["TABLE"], "globals"),
        (lambda x: __import__("os"), "__import__"),
        (lambda x: open(x), "open"),
        (lambda x: read_image(x), "read_image"),
        (lambda x: pd.read_csv(x), "read_csv"),
        (lambda x: x.read_text(), "read_text"),
        (lambda x: os.environ[x], "os.environ"),
        (lambda x: os.getenv(x), "os.getenv"),
        (lambda x: subprocess.run(["cat", x]), "subprocess.run"),
        (reads_the_environment, "os.environ"),
        ([lambda x: (lambda: eval("x"))()], "eval"),
    ],
)
def test_code_that_finds_things_by_computed_names_is_not_complete(function, name):
    found = describe(function)
    assert not found.is_complete and found.has_code
    assert found.reason == f"code that uses `{name}`"


def test_import_that_fails_is_not_complete():
    def function(x):
        import nowhere_at_all

        return nowhere_at_all.scale(x)

    found = describe(function)
    assert "(ModuleNotFoundError: No module named" in found.reason
    assert found.has_code


def test_generators_of_the_process_are_known_by_name():
    before = describe(draws)
    random.seed(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    assert before == describe(draws) and before.is_complete
    own = np.random.RandomState(0)
    before = describe(lambda x: own.rand() * x)
    own.rand()
    assert describe(lambda x: own.rand() * x).digest != before.digest


def test_global_that_changes_its_content_counts(monkeypatch):
    def function(x):
        return x * TABLE["by"]

    before = describe(function)
    monkeypatch.setitem(TABLE, "by", 2)
    assert describe(function).digest != before.digest


def test_name_that_is_not_there_yet_counts(monkeypatch):
    def function(x):
        return scale(x)  # noqa: F821

    before = describe(function)
    monkeypatch.setitem(globals(), "scale", lambda x: 2 * x)
    assert describe(function).digest != before.digest


def test_only_code_of_no_library_counts_as_code():
    for thing in (F.relu, torch.relu, torch.nn.ReLU(), operator.add, [1], np.mean):
        assert not describe(thing).has_code
    assert describe(lambda x: x).has_code


def test_names_and_places_of_functions_do_not_count():
    def first(x):
        return x + 1

    def other(x):
        return x + 1

    assert describe(first) == describe(other) == describe(lambda x: x + 1)


def test_compiled_function_is_what_was_compiled():
    def make(by):
        return torch.compile(lambda x: x * by)

    first, same, other = (describe(make(by)).digest for by in (1, 1, 2))
    assert first == same != other


def test_members_of_classes_in_c_are_known_by_name():
    things = [str.upper, str.lower, [].append, [1].append, "a".upper, int.__add__]
    assert len({describe(thing).digest for thing in things}) == len(things)
    assert all(describe(thing).is_complete for thing in things)


def uses(x):
    import json as other
    from os.path import join

    def inner(y):
        return max(y, missing.attribute)  # noqa: F821

    return other.loads(join(inner(x)))


def test_names_are_those_of_nested_code_as_well():
    names = names_of(uses.__code__)
    assert names.globals == ["max", "missing"]
    assert {"attribute", "join", "loads"} <= {*names.attributes}
    assert names.imports == [("json", 0), ("os.path", 0)]
    assert not names.looks_up
    assert names_of((lambda x, name: getattr(x, name)).__code__).looks_up


def test_imports_are_resolved(monkeypatch):
    found = resolve_imports(uses)
    assert [module.__name__ for module in found] == ["json", os.path.__name__, "os"]
    scope = {"__package__": "json"}
    exec(
        "def relative():\n    from . import decoder\n    from .scanner import x", scope
    )
    found = [module.__name__ for module in resolve_imports(scope["relative"])]
    assert found == ["json", "json.scanner"]


def test_import_of_nothing():
    def nowhere():
        import nowhere_at_all  # noqa: F401

    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        resolve_imports(nowhere)


def test_reasons_against_what_is_looked_up():
    assert reason_against(eval) == "`eval`"
    assert reason_against(os.environ) == "`os.environ`"
    assert reason_against(sys.modules) == "`sys.modules`"
    assert reason_against(len) is None
    assert reason_against(types) is None


def test_names_of_functions_that_read_files_or_clocks():
    assert reads(pd.read_csv) and reads(os.listdir) and reads(os.stat)
    assert reads(sqlite3.connect) and reads(subprocess.Popen) and reads(io.FileIO)
    assert reads(safetensors.safe_open) and reads(time.strftime)
    assert not reads(len) and not reads("open")
    assert not reads(torch.nn.Module.load_state_dict)
