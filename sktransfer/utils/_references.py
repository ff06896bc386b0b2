"""What code refers to: names, modules and functions outside it."""

import builtins
import dis
import importlib
import inspect
import os
import re
import sys
from functools import lru_cache
from types import CodeType

import numpy as np
import torch

__all__ = ["Names", "names_of", "reads", "reason_against", "resolve_imports"]

# What code can call or read to depend on something that it does not name.
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
    id(np.load): "`np.load`",
    id(np.fromfile): "`np.fromfile`",
    id(np.memmap): "`np.memmap`",
    id(np.loadtxt): "`np.loadtxt`",
    id(np.genfromtxt): "`np.genfromtxt`",
    id(torch.load): "`torch.load`",
}
# Names by which libraries read what is no argument: files, clocks, the environment.
_READS = re.compile(
    r"(open|i?glob|iterdir|listdir|scandir|walk|l?stat|exists|is_file|is_dir|getsize"
    r"|read|read_\w+|load|load_\w+|loadmat|from_?file|memmap|imread|urlopen|recv"
    r"|time|time_ns|perf_counter|monotonic|now|today|urandom|getpid|getcwd"
    r"|get_printoptions|getmodule|are_deterministic_algorithms_enabled)"
)
_LOADS_ITSELF = {"load_state_dict"}
_LOOKS = {
    "getattr",
    "vars",
    "attrgetter",
    "methodcaller",
    "__dict__",
    "__getattribute__",
}


class Names:
    """Names in a code object and in those that are nested in it.

    Attributes
    ----------
    globals : list of str
        Looked up in the module, and then among the built-in names.
    attributes : list of str
        Looked up in anything.
    imports : list of (str, int)
        Modules that are imported, each with its level of a relative import.
    looks_up : bool
        Whether attributes are looked up by names that may be computed.
    reads : list of str
        Attributes by which files are read.
    """

    def __init__(self, code):
        self.globals, self.attributes, self.imports = [], [], []
        self._read(code)
        for names in (self.globals, self.attributes, self.imports):
            names[:] = sorted({*names})
        self.looks_up = not _LOOKS.isdisjoint(self.attributes)
        reads = filter(_READS.fullmatch, {*self.attributes} - {*self.globals})
        self.reads = sorted({*reads} - _LOADS_ITSELF)

    def _read(self, code):
        before = [None, None]
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                self.globals.append(step.argval)
            elif step.opname == "IMPORT_NAME":
                # In front of it are its level and the names that it takes.
                level = before[0].argval if before[0] is not None else 0
                self.imports.append((step.argval, level or 0))
            before = [before[1], step]
        self.attributes += code.co_names
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._read(constant)


@lru_cache(maxsize=4096)
def names_of(code):
    """Return the names in a code object (Names)."""
    return Names(code)


def reason_against(value):
    """Say by which name code that refers to a value cannot be described.

    Parameters
    ----------
    value : object

    Returns
    -------
    str or None
        None if nothing speaks against it.
    """
    return _DYNAMIC.get(id(value))


def reads(value):
    """Say whether a function is called as those are that read files or clocks (bool).

    Parameters
    ----------
    value : object
    """
    name = getattr(value, "__name__", None)
    is_read = isinstance(name, str) and _READS.fullmatch(name) is not None
    return callable(value) and is_read and name not in _LOADS_ITSELF


def resolve_imports(function):
    """Import what a function imports when it is called.

    Parameters
    ----------
    function : types.FunctionType

    Returns
    -------
    list of types.ModuleType

    Raises
    ------
    ImportError
        If there is no such module.
    """
    package = function.__globals__.get("__package__")
    imported = []
    for name, level in names_of(function.__code__).imports:
        imported.append(importlib.import_module(f"{'.' * level}{name}", package))
        if "." in name and not level:  # `import a.b` binds a
            imported.append(importlib.import_module(name.partition(".")[0]))
    return imported
