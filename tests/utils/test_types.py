"""Public functions and methods are annotated, as `py.typed` promises."""

import inspect
from importlib import import_module

import pytest

PACKAGES = ["", ".adaptation", ".advice", ".backbones", ".inputs", ".model"]


def functions_of(thing):
    """The functions behind a public name: its own, or those of the class it is."""
    if not inspect.isclass(thing):
        return [thing]
    own = [c for c in thing.__mro__ if c.__module__.startswith("sktransfer")]
    members = {name: member for c in reversed(own) for name, member in vars(c).items()}
    public = [m for n, m in members.items() if n == "__init__" or n[0] != "_"]
    # Of properties, class methods and scikit-learn's `available_if`, the function.
    inside = ("fget", "__func__", "fn", "func")
    found = [next((getattr(m, i) for i in inside if hasattr(m, i)), m) for m in public]
    others = ("<lambda>", "_no_init_or_replace_init")  # the latter of a Protocol
    return [f for f in found if inspect.isfunction(f) and f.__name__ not in others]


def not_annotated(function):
    """Names of parameters without a type, and "return"."""
    signature = inspect.signature(function)
    names = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
    returns = signature.return_annotation is not signature.empty
    is_init = function.__name__ == "__init__"
    last = [] if returns or is_init else ["return"]
    return [name for name in names if name not in ("self", "cls")] + last


@pytest.mark.parametrize("package", PACKAGES)
def test_public_functions_are_annotated(package):
    module = import_module(f"sktransfer{package}")
    names = [name for name in module.__all__ if not name.startswith("__")]
    functions = [f for name in names for f in functions_of(getattr(module, name))]
    assert len(functions) >= len(names)
    missing = {f"{f.__module__}.{f.__qualname__}": not_annotated(f) for f in functions}
    assert {name: parts for name, parts in missing.items() if parts} == {}


def test_missing_annotations_are_found():
    class Public:
        def __init__(self, a, *, b: int = 0): ...

        def fit(self, X: int): ...

        @property
        def size(self): ...

        @classmethod
        def of(cls, given, **options: int) -> int: ...

        def _private(self, X): ...

    Public.__module__ = "sktransfer"
    found = {f.__name__: not_annotated(f) for f in functions_of(Public)}
    wanted = {"__init__": ["a"], "fit": ["return"], "size": ["return"], "of": ["given"]}
    assert found == wanted
