"""Functions, and what their code refers to."""

import builtins
import dis
import functools
import importlib
import inspect
import os
import re
import subprocess
import sys
import types
from typing import Any, NamedTuple

import numpy as np
import torch

from sktransfer.utils.description._data import unknown_operators
from sktransfer.utils.description._libraries import (
    is_library_function,
    is_own,
    library_version,
    survey_function,
    torch_changes,
)
from sktransfer.utils.description._objects import (
    Unknown,
    builtin_parts,
    by_name,
    take_apart,
)

_CODE = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.ModuleType,
    type,
)
_PLAIN = (bool, int, float, complex, str, bytes, functools.partial)
_MISSING = object()
# Objects by which code can depend on something that it does not name.
_DYNAMIC = {
    id(builtins.eval): "`eval`",
    id(builtins.exec): "`exec`",
    id(builtins.globals): "`globals`",
    id(builtins.__import__): "`__import__`",
    id(builtins.open): "`open`",
    id(builtins.input): "`input`",
    id(importlib.import_module): "`importlib.import_module`",
    id(importlib.reload): "`importlib.reload`",
    id(sys.modules): "`sys.modules`",
    id(sys._getframe): "`sys._getframe`",
    id(inspect.currentframe): "`inspect.currentframe`",
    id(inspect.stack): "`inspect.stack`",
    id(os.environ): "`os.environ`",
    id(os.getenv): "`os.getenv`",
    id(subprocess.run): "`subprocess.run`",
    id(subprocess.call): "`subprocess.call`",
    id(np.load): "`np.load`",
    id(np.fromfile): "`np.fromfile`",
    id(np.memmap): "`np.memmap`",
    id(np.loadtxt): "`np.loadtxt`",
    id(np.genfromtxt): "`np.genfromtxt`",
    id(torch.load): "`torch.load`",
}
# Names of functions of libraries that read files, clocks or the environment.
_READS = re.compile(
    r"(open|i?glob|iterdir|listdir|scandir|walk|l?stat|exists|is_file|is_dir|getsize"
    r"|read|read_\w+|load|load_\w+|loadmat|from_?file|memmap|imread|urlopen|recv"
    r"|safe_open|FileIO|fdopen|mmap|ZipFile|TarFile|HDFStore|connect|popen|Popen"
    r"|check_output|getoutput|getstatusoutput|run_path|getline|getlines"
    r"|time|time_ns|perf_counter|perf_counter_ns|monotonic|monotonic_ns|process_time"
    r"|localtime|gmtime|strftime|now|today|urandom|getpid|getcwd|environb|expandvars"
    r"|get_printoptions|getmodule|are_deterministic_algorithms_enabled)"
)
_READS_ARGUMENTS = {"load_state_dict"}
# Names by which attributes are looked up under names that may be computed.
_LOOKS_UP = {
    "getattr",
    "vars",
    "attrgetter",
    "methodcaller",
    "__dict__",
    "__getattribute__",
}


class Names:
    """Names in a code object and in those that are nested in it.

    `globals` are looked up in the module, and then among the built-in names, and
    `attributes` in any object. `imports` are modules, each with its level of a relative
    import. `looks_up` says whether attributes are looked up by names that may be
    computed. `reads` are the attributes by which libraries read files, clocks or the
    environment.
    """

    def __init__(self, code):
        self.globals, self.attributes, self.imports = [], [], []
        self._read(code)
        for names in (self.globals, self.attributes, self.imports):
            names[:] = sorted({*names})
        self.looks_up = not _LOOKS_UP.isdisjoint(self.attributes)
        reads = filter(_READS.fullmatch, {*self.attributes} - {*self.globals})
        self.reads = sorted({*reads} - _READS_ARGUMENTS)

    def _read(self, code):
        before = [None, None]
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                self.globals.append(step.argval)
            elif step.opname == "IMPORT_NAME":
                # Two steps before it is the level, one step before it the names.
                level = before[0].argval if before[0] is not None else 0
                self.imports.append((step.argval, level or 0))
            before = [before[1], step]
        self.attributes += code.co_names
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._read(constant)


@functools.lru_cache(maxsize=4096)
def names_of(code: types.CodeType) -> Names:
    """Return the names in a code object."""
    return Names(code)


def reason_against(value: Any) -> str | None:
    """Return the name of a value that no describable code uses; None for others."""
    return _DYNAMIC.get(id(value))


def reads(value: Any) -> bool:
    """Return whether a function has the name of one that reads files or clocks."""
    name = getattr(value, "__name__", None)
    is_read = isinstance(name, str) and _READS.fullmatch(name) is not None
    return callable(value) and is_read and name not in _READS_ARGUMENTS


def resolve_imports(function: types.FunctionType) -> list[types.ModuleType]:
    """Import what a function imports when it is called."""
    package = function.__globals__.get("__package__")
    imported = []
    for name, level in names_of(function.__code__).imports:
        imported.append(importlib.import_module(f"{'.' * level}{name}", package))
        if "." in name and not level:  # `import a.b` binds a
            imported.append(importlib.import_module(name.partition(".")[0]))
    return imported


@take_apart.register
def _(function: types.FunctionType):
    compiled = vars(function).get("_torchdynamo_orig_callable")
    if compiled is not None:
        return ["compiled function", compiled]
    code, changes = function.__code__, torch_changes()
    if not is_library_function(function):
        attached = _attached(function)
        return ["function", code, *attached, _References(function), *changes]
    name = function.__globals__["__name__"]
    parts = [name, code.co_qualname, library_version(name), *changes]
    if not is_own(function):  # made inside another, or by a decorator
        parts += [code.co_firstlineno, code.co_code, *_attached(function)]
    return ["function of a library", *parts, *survey_function(function).parts]


def _attached(function):
    """Return what a function has beside its code: defaults, closure, attributes."""
    closure = function.__closure__ or ()
    attributes = by_name(vars(function).items())
    return function.__defaults__, function.__kwdefaults__, closure, attributes


class _References(NamedTuple):
    """What the code of a function refers to; separate, as finding it may fail."""

    function: Any  # types.FunctionType, which a class would bind


@take_apart.register
def _(references: _References):
    function = references.function
    names = names_of(function.__code__)
    # What a constructor read is in the attributes of the object.
    files = names.reads if function.__name__ != "__init__" else []
    parts: list = [Unknown(f"code that uses `{name}`") for name in files]
    for name in names.globals:
        builtin = function.__builtins__.get(name, _MISSING)
        value = function.__globals__.get(name, builtin)
        parts.append((name, *_global_parts(name, value, names)))
    for module in resolve_imports(function):
        parts += _module_parts(module, names, {})
    return ["references", *parts]


def _global_parts(name, value, names):
    """List what describes a value that code finds under a global or built-in name."""
    if value is _MISSING:
        return []
    library = library_version(getattr(value, "__module__", None) or "")
    if library and reads(value) and not reason_against(value):
        return [Unknown(f"code that uses `{name}`")]
    return _used_parts(value, names, {})


def _used_parts(value, names, passed):
    """List what describes a value in use; of a module, only what the code uses."""
    if reason_against(value):
        return [Unknown(f"code that uses {reason_against(value)}")]
    if value is torch.ops:
        return unknown_operators({*names.attributes})
    if isinstance(value, types.ModuleType):
        return _module_parts(value, names, passed)
    return [value]


def _module_parts(module, names, passed):
    """List what describes a module by the attributes that code uses."""
    if id(module) in passed:
        return []
    passed[id(module)] = module
    version = library_version(module.__name__)
    parts = ["module", module.__name__, version, *([module] if names.looks_up else [])]
    for name in names.attributes:
        if name not in vars(module):
            continue
        value = vars(module)[name]
        if version is None or _counts(value):
            parts.append((name, *_used_parts(value, names, passed)))
        else:  # what a library keeps for itself
            parts.append((name, type(value).__qualname__))
    return parts


def _counts(value):
    """Return whether a value in a library's module may be code or foreign to it."""
    is_code = isinstance(value, _CODE + _PLAIN) or reason_against(value) is not None
    return is_code or library_version(type(value).__module__) is None


@take_apart.register
def _(module: types.ModuleType):
    """Describe all that is in a module, or only what was put into a library's."""
    version = library_version(module.__name__)
    members = [*vars(module).items()]
    if version is None:
        members = [(name, value) for name, value in members if name[:2] != "__"]
    else:
        members = [
            (name, value)
            for name, value in members
            if isinstance(value, types.FunctionType) and not is_library_function(value)
        ]
    return ["whole module", module.__name__, version, by_name(members)]


@take_apart.register
def _(code: types.CodeType):
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    steps = code.co_code, code.co_exceptiontable
    return ["code", *steps, *counts, code.co_flags, *names, code.co_consts]


@take_apart.register
def _(cell: types.CellType):
    try:
        return ["cell", cell.cell_contents]
    except ValueError:
        return ["empty cell"]


@take_apart.register
def _(method: types.MethodType):
    return ["method", method.__func__, method.__self__]


@take_apart.register
def _(function: types.BuiltinFunctionType):
    reason = reason_against(function)
    return [*builtin_parts(function), *([] if reason is None else [Unknown(reason)])]


@take_apart.register
def _(
    member: types.ClassMethodDescriptorType
    | types.GetSetDescriptorType
    | types.MemberDescriptorType
    | types.MethodDescriptorType
    | types.MethodWrapperType
    | types.WrapperDescriptorType,
):
    owner = getattr(member, "__objclass__", None)
    bound = member.__self__ if isinstance(member, types.MethodWrapperType) else None
    return ["member", getattr(owner, "__qualname__", None), member.__name__, bound]


@take_apart.register
def _(wrapper: staticmethod | classmethod):
    return [type(wrapper).__name__, wrapper.__func__]


@take_apart.register
def _(value: property):
    return ["property", value.fget, value.fset, value.fdel]


@take_apart.register
def _(value: functools.partial):
    parts = type(value), value.func, value.args, {**value.keywords}
    return ["partial", *parts, by_name(vars(value).items())]


@take_apart.register(type(functools.cache(repr)))
def _(function):
    parameters = sorted(function.cache_parameters().items())
    return ["cached", parameters, by_name(vars(function).items())]  # with what it wraps
