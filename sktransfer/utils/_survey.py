"""What libraries' functions and classes consist of, so that a patched one is seen."""

from dataclasses import dataclass
from functools import cached_property, partial
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodType,
    ModuleType,
)
from weakref import WeakKeyDictionary

from torch import nn

from sktransfer.utils._libraries import is_library_function, library_version

__all__ = ["Survey", "functions_in", "survey_class", "survey_function"]

_MOST = 500  # functions that one class is followed into
_DEEPEST = 3
_CALLABLE = (FunctionType, BuiltinFunctionType, type)
_PLAIN = (bool, int, float, str, type(None))
# They make layers, and compute nothing.
_MAKERS = {"__init__", "__setstate__", "extra_repr", "reset_parameters"}


@dataclass(frozen=True)
class Survey:
    """What was found under the names in the code of a library.

    Attributes
    ----------
    text : str
        The same in every process.
    checks : list of (mapping, str, object)
        What was found where. As long as it is still there, the survey holds.
    sizes : list of (mapping, int)
        Likewise, how much there was.
    foreign : list of (str, object)
        What comes from no library, with its names.
    """

    text: str
    checks: list
    sizes: list
    foreign: list

    def holds(self):
        """Say whether all is as it was found (bool)."""
        return all(len(space) == n for space, n in self.sizes) and all(
            space.get(name) is value for space, name, value in self.checks
        )


_of_classes: WeakKeyDictionary = WeakKeyDictionary()
_of_functions: WeakKeyDictionary = WeakKeyDictionary()


def survey_class(cls):
    """Survey the dictionary of a library's class, and what its methods call.

    Parameters
    ----------
    cls : type

    Returns
    -------
    Survey
    """
    return _remembered(_of_classes, cls, _survey_class)


def survey_function(function):
    """Survey the functions and classes that a library's function calls.

    Parameters
    ----------
    function : types.FunctionType

    Returns
    -------
    Survey
    """
    return _remembered(_of_functions, function, lambda f: _follow([f]))


def _remembered(known, key, make):
    found = known.get(key)
    if found is None or not found.holds():
        found = known[key] = make(key)
    return found


def _survey_class(cls):
    members = vars(cls)
    lines, checks, foreign, own = [], [], [], []
    for name, member in members.items():
        checks.append((members, name, member))
        if isinstance(member, _PLAIN) and not name.startswith("__"):
            lines.append(f"{name}={member!r}")
        if _is_put_there(member):
            foreign.append((name, member))
        for function in functions_in(member):
            if not is_library_function(function):
                foreign.append((name, function))
                continue
            lines.append(f"{name} {_full_name(function)}")
            if name not in _MAKERS and cls is not nn.Module:
                own.append(function)
    called = _follow(own)
    return Survey(
        "\n".join([*lines, called.text]),
        [*checks, *called.checks],
        [(members, len(members))],
        [*foreign, *called.foreign],
    )


def _is_of_a_library(value):
    if isinstance(value, FunctionType):
        return is_library_function(value)
    return not _is_put_there(value)


def _is_put_there(value):
    """Say whether an object is callable and of a kind that libraries rarely have."""
    if isinstance(value, partial | MethodType):
        return True
    is_plain = isinstance(value, _PLAIN + _CALLABLE)
    return not is_plain and library_version(type(value).__module__) is None


def functions_in(member):
    """Return the functions that a member of a class consists of (list)."""
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    if isinstance(member, property):
        parts = [member.fget, member.fset, member.fdel]
    elif isinstance(member, cached_property):
        parts = [member.func]
    else:
        parts = [member]
    return [part for part in parts if isinstance(part, FunctionType)]


def _follow(functions):
    """Survey what functions of libraries call, some calls deep."""
    lines, checks, foreign = [], [], []
    seen, level = {*map(id, functions)}, list(functions)
    for _ in range(_DEEPEST):
        following = []
        for function in level:
            for space, name, value in _callables(function):
                checks.append((space, name, value))
                if not _is_of_a_library(value):
                    foreign.append((name, value))
                    continue
                lines.append(f"{name} {_full_name(value)}")
                if isinstance(value, FunctionType) and id(value) not in seen:
                    seen.add(id(value))
                    following.append(value)
        level = following if len(seen) < _MOST else []
    return Survey("\n".join(lines), checks, [], foreign)


def _callables(function):
    """Yield (namespace, name, value) of the functions and classes that code names."""
    space = function.__globals__
    version = library_version(space.get("__name__", ""))
    if version is None or version.startswith("python "):
        return
    names = [*dict.fromkeys(_names(function.__code__))]
    for name in names:
        value = space.get(name)
        if isinstance(value, _CALLABLE) or _is_put_there(value):
            yield space, name, value
        elif isinstance(value, ModuleType):
            inside = vars(value)
            for attribute in names:
                found = inside.get(attribute)
                if isinstance(found, _CALLABLE) or _is_put_there(found):
                    yield inside, attribute, found


def _names(code):
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _full_name(value):
    """Return the module and the name of a function or class (str)."""
    owner = getattr(value, "__module__", None) or getattr(value, "__self__", None)
    return f"{getattr(owner, '__name__', owner)}.{value.__qualname__}"
