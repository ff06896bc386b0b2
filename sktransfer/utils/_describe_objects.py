"""Descriptions of modules of torch and of all other objects."""

import collections
import copyreg
import ctypes
import enum
import sys

import torch
from torch import fx, nn

from sktransfer.utils._describe_code import add_builtin, add_class
from sktransfer.utils._describe_values import add_items, add_set
from sktransfer.utils._libraries import is_own
from sktransfer.utils._object_state import (
    has_python_state,
    is_global_generator,
    module_state,
    refuses_pickling,
    script_parts,
    slots_of,
)
from sktransfer.utils._writer import name_of

__all__ = ["OBJECTS_BY_KIND"]

_OF_GRAPHS = {"_graph", "_codegen", "meta", "_tracer_cls", "_tracer_extras"}
# Memory and functions that Python knows only the addresses of.
_OUTSIDE_PYTHON = (ctypes.CDLL, ctypes._SimpleCData.__base__)
# Their ufuncs do not say where they are.
_OF_UFUNCS = ("numpy", "scipy.special")
_NUMBERS = (int, float, complex)
_CONTENT = (
    dict,
    list,
    tuple,
    set,
    frozenset,
    collections.deque,
    str,
    bytes,
    bytearray,
    *_NUMBERS,
)


def _add_member_of_enum(d, member):
    d.put("enum", member.name)
    add_class(d, type(member))
    d.add(member._value_)


def _add_module(d, module):
    if not d.is_new(module):
        return
    d.put("module")
    add_class(d, type(module))
    if isinstance(module, torch.jit.ScriptModule):
        d.put(*script_parts(module))
        return
    state = module_state(module)
    if isinstance(module, fx.GraphModule):  # which keeps its graph as code, too
        state = {k: v for k, v in state.items() if k not in _OF_GRAPHS}
    elif type(module).__name__ == "OptimizedModule":  # compiled
        state = {"_orig_mod": module._modules["_orig_mod"]}
    d.add_named(state)


def _add_script(d, function):
    d.put("script", *script_parts(function))


def _add_object(d, value):
    cls = type(value)
    if cls.__name__ == "cython_function_or_method":
        add_builtin(d, value)
        return
    if not d.is_new(value):
        return
    if is_global_generator(value):
        d.put("a generator of the process", cls.__qualname__)
        return
    if isinstance(value, _OUTSIDE_PYTHON):
        d.give_up(name_of(value))
        return
    d.put("object")
    add_class(d, cls)
    content = next((k for k in _CONTENT if isinstance(value, k)), None)
    if content is not None:
        _add_content(d, content, value)
    elif not has_python_state(cls):
        _add_reduced(d, value)
        return
    elif not is_own(cls) and (error := refuses_pickling(value)) is not None:
        d.give_up(f"{name_of(value)} ({type(error).__name__}: {error})")
    d.add_named({**_attributes(value), **slots_of(value)})


def _add_content(d, kind, value):
    """Describe what an object of a subclass of a built-in type holds."""
    if kind is dict:
        d.put("dict", len(value))
        for key in [*dict.keys(value)]:
            d.add(key)
            d.add(dict.__getitem__(value, key))
        if isinstance(value, collections.defaultdict):
            d.add(value.default_factory)
    elif kind in (set, frozenset):
        add_set(d, kind(kind.__iter__(value)))
    elif kind in (list, collections.deque):
        add_items(d, [*kind.__iter__(value)])
        if kind is collections.deque:
            d.add(value.maxlen)
    elif kind is tuple:
        d.add_tuple(tuple(tuple.__iter__(value)))
    else:
        is_number = kind in _NUMBERS
        whole = None if is_number else kind.__getitem__(value, slice(None))
        d.add(kind.__pos__(value) if is_number else whole)


def _add_reduced(d, value):
    """Describe an object of a class in C by what it is made from again."""
    reduce = copyreg.dispatch_table.get(type(value))
    reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
    if isinstance(reduced, str):
        _add_global(d, value, reduced)
        return
    make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    d.add_tuple((make, arguments, state))
    d.add_tuple(tuple(items or ()))
    d.add_tuple(tuple(pairs or ()))
    d.add_named(_attributes(value))


def _add_global(d, value, name):
    """Describe what a module has under a name."""
    known = [getattr(value, "__module__", None), type(value).__module__, *_OF_UFUNCS]
    for module in filter(None, known):
        found = vars(sys.modules[module]) if module in sys.modules else {}
        if found.get(name) is value:
            d.put("global", module, name, d.version(module))
            return
    raise TypeError(f"no module has it under its name, {name!r}")


def _attributes(value):
    found = getattr(value, "__dict__", None)
    return found if isinstance(found, dict) else {}


# In the order in which they are tried.
OBJECTS_BY_KIND = (
    (enum.Enum, _add_member_of_enum),
    (nn.Module, _add_module),
    (torch.jit.ScriptFunction, _add_script),
    (object, _add_object),
)
