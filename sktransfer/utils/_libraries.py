"""Which code belongs to an installed library, and to which version of it."""

import importlib.metadata
import os
import site
import sys
import sysconfig
from functools import cache
from types import FunctionType, ModuleType

__all__ = ["is_library_file", "is_library_function", "is_own", "library_version"]


@cache
def _roots():
    """Folders that hold libraries (tuple of str); this package counts as one."""
    paths = sysconfig.get_paths()
    folders = [paths[k] for k in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    names = ("site-packages", "dist-packages")
    folders += [p for p in sys.path if os.path.basename(p.rstrip(os.sep)) in names]
    folders.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return tuple({f"{path}{os.sep}" for f in folders for path in _spellings(f)})


def _spellings(path):
    return os.path.abspath(path), os.path.realpath(path)


@cache
def is_library_file(path):
    """Say whether a source file is in a folder of libraries (bool).

    Parameters
    ----------
    path : str
        As ``co_filename`` of a code object or ``__file__`` of a module gives it.
    """
    if path.startswith("<frozen "):
        return True
    if path.startswith("<"):
        return False
    return any(p.startswith(_roots()) for p in _spellings(path))


def library_version(name):
    """Return the version of the library that a module belongs to.

    Parameters
    ----------
    name : str
        Of the module, as ``"torch.nn.functional"``.

    Returns
    -------
    str or None
        None if it belongs to no library, or to one whose version is not known.
    """
    top = name.partition(".")[0]
    module = sys.modules.get(top)
    if not isinstance(module, ModuleType) or top == "__main__":
        return None
    if top in sys.stdlib_module_names:
        is_there = _is_there(module, when_built_in=True)
        return f"python {sys.version}" if is_there else None
    if not _is_there(module, when_built_in=False):
        return None
    version = getattr(module, "__version__", None)
    return str(version) if isinstance(version, str) else _distributed_version(top)


def _is_there(module, when_built_in):
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


def is_library_function(function):
    """Say whether the code of a function is that of a library (bool).

    Parameters
    ----------
    function : types.FunctionType
        Its name does not count, which a wrapper may have taken from another.
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


def is_own(thing):
    """Say whether a function or a class is what its library has under its name (bool).

    Parameters
    ----------
    thing : types.FunctionType or type
    """
    name = getattr(thing, "__module__", None)
    if not isinstance(name, str) or library_version(name) is None:
        return False
    if isinstance(thing, FunctionType) and not is_library_function(thing):
        return False
    found = sys.modules.get(name)
    for part in thing.__qualname__.split("."):
        found = getattr(found, part, None)
    return getattr(found, "__func__", found) is thing
