import os
import sys
import types

import pytest

from sktransfer.utils._references import names_of, reason_against, resolve_imports


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
