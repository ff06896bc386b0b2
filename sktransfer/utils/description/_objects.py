"""What objects, their classes and modules of torch consist of.

:func:`take_apart` has one implementation per type; other modules register more.
"""

import collections
import copyreg
import ctypes
import enum
import functools
import operator
import random
import sys
from collections.abc import Callable
from types import MemberDescriptorType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from sktransfer.utils.description._libraries import (
    is_own,
    library_class_parts,
    library_version,
    torch_changes,
)

_MANAGED_DICT = 1 << 4  # flag of classes whose objects' dictionary is not inside them
_POINTER = 8  # bytes
_NOT_OF_CLASSES = {
    "__abstractmethods__",
    "__annotate__",
    "__annotate_func__",
    "__annotations__",
    "__annotations_cache__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__module__",
    "__orig_bases__",
    "__parameters__",
    "__qualname__",
    "__slotnames__",  # set by the first copy or pickle of an object
    "__static_attributes__",
    "__weakref__",
    "_abc_impl",
    "_autograd_function_id",  # a count
    "_backward_cls",  # made of the class itself
}
_NO_STATE = {
    "_is_full_backward_hook",
    "_load_state_dict_post_hooks",
    "_load_state_dict_pre_hooks",
    "_non_persistent_buffers_set",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "training",
}
_OF_ALL_MODULES = {*vars(nn.Module())}
# Those that change what a module computes. Marks of hooks stand beside these.
READ_OF_MODULES = {name for name in _OF_ALL_MODULES - _NO_STATE if "hooks_" not in name}
_OF_GRAPHS = {"_graph", "_codegen", "meta", "_tracer_cls", "_tracer_extras"}
# Memory and functions of which Python knows only addresses.
_OUTSIDE_PYTHON: Any = (ctypes.CDLL, ctypes._SimpleCData.__base__)
_WITH_UFUNCS = ("numpy", "scipy.special")  # ufuncs don't say where they are
# What an object of a subclass of a built-in type holds, as a plain value.
_CONTENT: dict[type, Callable[[Any], Any]] = {
    collections.OrderedDict: lambda value: dict(collections.OrderedDict.items(value)),
    dict: dict.copy,
    list: lambda value: [*list.__iter__(value)],
    tuple: lambda value: (*tuple.__iter__(value),),
    set: lambda value: {*set.__iter__(value)},
    frozenset: lambda value: {*frozenset.__iter__(value)},
    collections.deque: lambda value: [*collections.deque.__iter__(value)],
    str: lambda value: str.__getitem__(value, slice(None)),
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    bytearray: lambda value: bytearray.__getitem__(value, slice(None)),
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
}


class Unknown(str):
    """The reason why something cannot be described."""

    __slots__ = ()


# Sorts the items of a dictionary, so that the order of its making does not count.
by_name = functools.partial(sorted, key=operator.itemgetter(0))


@functools.singledispatch
def take_apart(value: Any) -> list:
    """Return the simpler values that a value consists of.

    Two values must consist of the same parts only if they compute the same. So the
    first part names the kind of the value, and no part may depend on the process. An
    :class:`Unknown` stands for anything that cannot be described. The implementation is
    chosen by the type of the value; this one is for objects of any class.
    """
    cls = type(value)
    if cls.__name__ == "cython_function_or_method":
        return builtin_parts(value)
    if is_global_generator(value):
        return ["generator of the process", cls.__qualname__]
    if isinstance(value, _OUTSIDE_PYTHON):
        return [Unknown(name_of(value))]
    content = _content(value)
    if not content and not has_python_state(cls):
        return ["object in C", cls, *_reduced(value)]
    state = by_name({**_attributes(value), **_slots(value)}.items())
    return ["object", cls, *content, state, *([] if content else _refusal(value))]


def _content(value):
    """List what an object of a subclass of a built-in type holds."""
    kind = next((kind for kind in _CONTENT if isinstance(value, kind)), None)
    if kind is None:
        return []
    parts = [kind.__name__, _CONTENT[kind](value)]
    if kind is collections.deque:
        parts.append(value.maxlen)
    if isinstance(value, collections.defaultdict):
        parts.append(value.default_factory)
    return parts


def _attributes(value):
    found = getattr(value, "__dict__", None)
    return found if isinstance(found, dict) else {}


def _slots(value):
    """Return the values in the slots of an object (dict)."""
    found = {}
    for cls in type(value).__mro__:
        if "__slots__" not in vars(cls):
            continue
        for name, member in vars(cls).items():
            if isinstance(member, MemberDescriptorType) and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def has_python_state(cls: type) -> bool:
    """Return whether objects of a class consist of attributes and slots alone.

    Classes that are written in C have more. The rule is that of ``object.__reduce__``.
    """
    size = object.__basicsize__
    if cls.__dictoffset__ and not cls.__flags__ & _MANAGED_DICT:
        size += _POINTER
    if cls.__weakrefoffset__ > 0:
        size += _POINTER
    for base in cls.__mro__:
        if "__slots__" in vars(base):
            members = vars(base).values()
            size += _POINTER * sum(isinstance(m, MemberDescriptorType) for m in members)
    return cls.__itemsize__ == 0 and cls.__basicsize__ <= size


def _refusal(value):
    """List the reason, if any, why a class of no library refuses to be pickled.

    A class that refuses holds something that its attributes don't show.
    """
    cls = type(value)
    is_default = (
        cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
    )
    if is_default or is_own(cls):
        return []
    try:
        value.__reduce_ex__(4)
    except Exception as error:
        return [Unknown(f"{name_of(value)} ({type(error).__name__}: {error})")]
    return []


def _reduced(value):
    """List what pickle would rebuild an object of a class in C from."""
    reduce = copyreg.dispatch_table.get(type(value))
    reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
    if isinstance(reduced, str):
        return [_global(value, reduced)]
    make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    more = [*(items or ())], [*(pairs or ())]
    return [make, arguments, state, *more, by_name(_attributes(value).items())]


def _global(value, name):
    """Return where a module has an object under a name, and its version."""
    known = [getattr(value, "__module__", None), type(value).__module__, *_WITH_UFUNCS]
    for module in filter(None, known):
        found = vars(sys.modules[module]) if module in sys.modules else {}
        if found.get(name) is value:
            return "global", module, name, library_version(module)
    raise TypeError(f"no module has it under its name, {name!r}")


def builtin_parts(function: Any) -> list:
    """Take a function in C apart: its name, version, and what it is bound to."""
    owner = getattr(function, "__self__", None)
    name = getattr(function, "__module__", None) or ""
    if isinstance(owner, ModuleType):
        name, owner = owner.__name__, None
    return ["builtin", name, function.__qualname__, library_version(name), owner]


def is_global_generator(obj: Any) -> bool:
    """Return whether an object is one of the global random generators."""
    return (
        obj is random._inst
        or obj is np.random.mtrand._rand
        or obj is torch.default_generator
    )


def name_of(value: Any) -> str:
    """Return how a message names an object."""
    if isinstance(getattr(value, "__qualname__", None), str):
        return f"`{value.__qualname__}`"
    return f"an object of type {type(value).__module__}.{type(value).__qualname__}"


@take_apart.register
def _(member: enum.Enum):
    return ["enum", member.name, type(member), member._value_]


@take_apart.register
def _(cls: type):
    known = library_class_parts(cls)
    if known:
        return ["class of a library", *known]
    members = {k: v for k, v in vars(cls).items() if k not in _NOT_OF_CLASSES}
    parts = by_name(members.items()), type(cls), *cls.__bases__
    return ["class", cls.__qualname__, *parts, *torch_changes()]


@take_apart.register
def _(module: nn.Module):
    state = module_state(module)
    if type(module).__name__ == "OptimizedModule":  # which torch.compile returns
        state = {"_orig_mod": module._modules["_orig_mod"]}
    return ["module", type(module), by_name(state.items())]


@take_apart.register
def _(module: fx.GraphModule):  # which keeps its graph as code, too
    state = module_state(module)
    kept = [(name, value) for name, value in state.items() if name not in _OF_GRAPHS]
    return ["graph", type(module), by_name(kept)]


def module_state(module: nn.Module) -> dict[str, Any]:
    """Return what a module consists of: settings, tensors, children and hooks.

    What changes no result is left out, and so are empty attributes that every module
    has. Hooks are lists in their order, as the numbers in their names depend on how
    many hooks there were before in the process.
    """
    state = {}
    for name, value in vars(module).items():
        if name in _OF_ALL_MODULES and (name not in READ_OF_MODULES or not value):
            continue
        if name in READ_OF_MODULES and name.endswith("hooks"):
            value = _hooks(module, name, value)
        state[name] = value
    return state


def _hooks(module, name, hooks):
    marks = [
        getattr(module, f"{name}_{kind}", {})
        for kind in ("with_kwargs", "always_called")
    ]
    return [
        (hook, [number in mark for mark in marks]) for number, hook in hooks.items()
    ]
