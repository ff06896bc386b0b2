"""Code of installed libraries: its version, and whether any of it was replaced.

A function of a library need not be described by its instructions: its name and the
version of the library stand for them. That holds as long as nobody has put another
function in its place, or in the place of one that it calls. A survey lists what the
library's names refer to, so that both are seen. As most of it never changes, a survey
is kept, and used again after a check that all is as it was found.
"""

import importlib.metadata
import os
import site
import sys
import sysconfig
from collections import defaultdict
from functools import cache, cached_property, partial, wraps
from itertools import product
from operator import is_, itemgetter
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from sktransfer.utils.description._library_lock import library_lock

# Libraries that pretrained networks consist of, by the names of their modules.
NETWORK_LIBRARIES = ("torch", "torchvision", "timm")
_OTHERS = ("PIL", "numpy", "sklearn", "skorch", "sktransfer")
_HEAP = 1 << 9  # flag of classes that are made while a process runs
_MAX_FUNCTIONS = 500  # that the survey of one class looks into
_MAX_DEPTH = 3  # calls
_CALLABLE = (FunctionType, BuiltinFunctionType, type)
_PLAIN = (bool, int, float, str, type(None))
_HOOKS_OF_ALL = sorted(
    name
    for name in vars(torch_module)
    if name.startswith("_global_") and name.endswith("_hooks")
)
# Methods that set layers up, and compute nothing.
_SETUP = {"__init__", "__setstate__", "extra_repr", "reset_parameters"}
# Methods that a library adds to the classes of another one, and that it alone calls.
# transformers adds this one to all modules when it first sets weights up.
_ADDED = {"smart_apply"}


@cache
def _roots():
    """Return the folders of libraries (tuple); that of this package is one of them."""
    paths = sysconfig.get_paths()
    folders = [paths[k] for k in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    names = ("site-packages", "dist-packages")
    folders += [p for p in sys.path if os.path.basename(p.rstrip(os.sep)) in names]
    folders.append(Path(__file__).absolute().parents[2])
    return tuple({f"{path}{os.sep}" for f in folders for path in _spellings(f)})


def _spellings(path):
    return os.path.abspath(path), os.path.realpath(path)


@cache
def is_library_file(path: str) -> bool:
    """Return whether a source file (a ``co_filename``) is in a folder of libraries."""
    if path.startswith("<frozen "):
        return True
    if path.startswith("<"):
        return False
    return any(p.startswith(_roots()) for p in _spellings(path))


def library_versions() -> dict[str, str | None]:
    """Return the versions of the libraries that fitted models depend on."""
    return {name: library_version(name) for name in (*NETWORK_LIBRARIES, *_OTHERS)}


def library_version(name: str) -> str | None:
    """Return the version of the library that a module belongs to, by its name.

    None if it belongs to no library, or to one whose version is not known.
    """
    top = name.partition(".")[0]
    module = sys.modules.get(top)
    if not isinstance(module, ModuleType) or top == "__main__":
        return None
    if top in sys.stdlib_module_names:
        is_there = _is_installed(module, when_built_in=True)
        return f"python {sys.version}" if is_there else None
    if not _is_installed(module, when_built_in=False):
        return None
    version = getattr(module, "__version__", None)
    return str(version) if isinstance(version, str) else _distributed_version(top)


def _is_installed(module, when_built_in):
    file = getattr(module, "__file__", None)
    if file is None:
        # A package without an `__init__.py` has folders only.
        folders = [*getattr(module, "__path__", [])]
        return all(map(is_library_file, folders)) if folders else when_built_in
    return is_library_file(file)


@cache
def _distributed_version(top):
    names = importlib.metadata.packages_distributions().get(top)
    return importlib.metadata.version(names[0]) if names else None


def is_library_function(function: FunctionType) -> bool:
    """Return whether the code of a function belongs to a library.

    Its name does not count, as a wrapper may have taken it from another function.
    """
    name = function.__globals__.get("__name__")
    if not isinstance(name, str) or library_version(name) is None:
        return False
    path = function.__code__.co_filename
    if is_library_file(path):
        return True
    # Code that was generated, as the methods of dataclasses are.
    is_generated = path.startswith("<")
    return is_generated and vars(sys.modules.get(name, sys)) is function.__globals__


def is_own(thing: FunctionType | type) -> bool:
    """Return whether a library has this function or class under its name."""
    name = getattr(thing, "__module__", None)
    if not isinstance(name, str) or library_version(name) is None:
        return False
    if isinstance(thing, FunctionType) and not is_library_function(thing):
        return False
    found = sys.modules.get(name)
    for part in thing.__qualname__.split("."):
        found = getattr(found, part, None)
    return getattr(found, "__func__", found) is thing


class Survey:
    """What the names in the code of a library refer to.

    `text` is the same in every process. `foreign` is what comes from no library, with
    the names that it was found under. What may be replaced are all names in `spaces`,
    `names` in others (pairs of a namespace and a name), and the code of `functions`.
    """

    def __init__(self, text, foreign=(), spaces=(), names=(), functions=()):
        self.text, self.foreign = text, tuple(foreign)
        self.spaces, self.names = tuple(spaces), tuple(names)
        self.functions = tuple(functions)
        of_space = defaultdict(list)
        for space, name in self.names:
            of_space[id(space)].append((space, name))
        self._getters = []
        for pairs in of_space.values():
            (space, first), *_ = pairs  # a getter of one name returns no tuple
            names = [name for _, name in pairs]
            self._getters.append((itemgetter(*names, first), space))
        self._then = self._read()

    @property
    def parts(self) -> list:
        """Return the text, and what comes from no library."""
        return [self.text, *self.foreign]

    def _read(self):
        values = [function.__code__ for function in self.functions]
        for getter, space in self._getters:
            values += getter(space)
        for space in self.spaces:
            values += space
            values += space.values()
        return values

    def holds(self) -> bool:
        """Return whether everything is still as it was found, by identity."""
        try:
            now = self._read()
        except KeyError:  # a name was deleted
            return False
        return len(now) == len(self._then) and all(map(is_, now, self._then))


def _kept(make):
    """Keep the surveys that a function makes, each for as long as it holds."""
    known = WeakKeyDictionary()

    @wraps(make)
    def survey(thing):
        with library_lock:
            found = known.get(thing)
            if found is None or not found.holds():
                found = known[thing] = make(thing)
            return found

    return survey


@_kept
def survey_class(cls: type) -> Survey:
    """Survey the members of a library's class, and what its methods call.

    The survey is the same object as before if nothing was replaced since.
    """
    members = _survey_members(cls)
    called = [
        function
        for name, function in _functions_of(cls)
        if name not in _SETUP and cls is not nn.Module and is_library_function(function)
    ]
    calls = _survey_calls(called)
    return Survey(
        f"{members.text}\n{calls.text}",
        (*members.foreign, *calls.foreign),
        members.spaces,
        calls.names,
        (*members.functions, *calls.functions),
    )


@_kept
def survey_function(function: FunctionType) -> Survey:
    """Survey the functions and classes that a library's function calls.

    The survey is the same object as before if nothing was replaced since.
    """
    return _survey_calls([function])


@_kept
def _survey_members(cls):
    """Survey the dictionary of a class, but not what its methods call."""
    members, lines, foreign, functions = vars(cls), [], [], []
    for name, member in members.items():
        if isinstance(member, _PLAIN) and not name.startswith("__"):
            lines.append(f"{name}={member!r}")
        if not isinstance(member, FunctionType) and _is_foreign(member):
            foreign.append((name, member))
    for name, function in _functions_of(cls):
        if name in _ADDED and is_library_function(function):
            continue
        functions.append(function)
        if is_library_function(function):
            lines.append(f"{name} {_full_name(function)}")
        else:
            foreign.append((name, function))
    return Survey("\n".join(lines), foreign, [members], functions=functions)


def _survey_calls(functions):
    """Survey what functions of libraries call, a few calls deep."""
    lines, foreign, names = [], [], []
    seen, level = {id(f): f for f in functions}, list(functions)
    for _ in range(_MAX_DEPTH):
        called = []
        for found in (found for function in level for found in _callables(function)):
            space, name, value = found
            names.append((space, name))
            if _is_foreign(value):
                foreign.append((name, value))
                continue
            lines.append(f"{name} {_full_name(value)}")
            if isinstance(value, FunctionType) and id(value) not in seen:
                seen[id(value)] = value
                called.append(value)
        level = called if len(seen) < _MAX_FUNCTIONS else []
    return Survey("\n".join(lines), foreign, names=names, functions=seen.values())


def library_class_parts(cls: type) -> list:
    """Take a class of a library apart: its name, its version and surveys.

    The list is empty if the class is not what a library has under its name.
    """
    if not is_own(cls) and not (cls.__module__ == "builtins" and _is_in_c(cls)):
        return []
    surveys = [
        survey_class(base).parts for base in cls.__mro__[:-1] if not _is_in_c(base)
    ]
    name = cls.__module__
    return [name, cls.__qualname__, library_version(name), *surveys, *torch_changes()]


def _is_in_c(cls):
    return not cls.__flags__ & _HEAP


def torch_changes() -> list[tuple[str, Any]]:
    """Return what was put into the parts of torch that every network uses, by name.

    These are functions of no library among the methods of tensors, and lists of the
    hooks that are called for every module. Usually there are none. Hooks by which a
    library follows how modules are set up, as torch's export does, compute nothing.
    """
    found = []
    for kind in _HOOKS_OF_ALL:
        hooks = getattr(torch_module, kind)
        is_setup = kind.endswith("_registration_hooks")
        counted = [h for h in hooks.values() if not is_setup or _is_foreign(h)]
        if counted:
            found.append((kind, counted))
    return [*_survey_members(torch.Tensor).foreign, *found]


def _is_foreign(value):
    """Return whether a function, or the type of another value, is of no library."""
    if isinstance(value, FunctionType):
        return not is_library_function(value)
    if isinstance(value, partial | MethodType):
        return True
    is_plain = isinstance(value, _PLAIN + _CALLABLE)
    return not is_plain and library_version(type(value).__module__) is None


def _functions_in(member):
    """List the functions that a member of a class consists of."""
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    if isinstance(member, property):
        parts = [member.fget, member.fset, member.fdel]
    elif isinstance(member, cached_property):
        parts = [member.func]
    else:
        parts = [member]
    return [part for part in parts if isinstance(part, FunctionType)]


def _functions_of(cls):
    """List the functions in the members of a class, as (name, function)."""
    return [(name, f) for name, m in [*vars(cls).items()] for f in _functions_in(m)]


def _callables(function):
    """Yield (namespace, name, value) of the functions and classes that code names."""
    space = function.__globals__
    version = library_version(space.get("__name__", ""))
    if version is None or version.startswith("python "):
        return
    names = [*dict.fromkeys(_names(function.__code__))]
    modules = [space[name] for name in names if isinstance(space.get(name), ModuleType)]
    for inside, name in product([space, *map(vars, modules)], names):
        value = inside.get(name)
        if isinstance(value, _CALLABLE) or _is_foreign(value):
            yield inside, name, value


def _names(code):
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _full_name(value):
    """Return the module and the name of a function or class as one text."""
    owner = getattr(value, "__module__", None) or getattr(value, "__self__", None)
    return f"{getattr(owner, '__name__', owner)}.{value.__qualname__}"
