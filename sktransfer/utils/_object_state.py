"""What objects consist of, beside their class."""

import io
import random
import re
import warnings
import zipfile
from types import MemberDescriptorType

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as torch_module

__all__ = [
    "has_python_state",
    "hooks_for_all_modules",
    "is_global_generator",
    "module_state",
    "refuses_pickling",
    "script_parts",
    "slots_of",
]

_HEAP, _MANAGED_DICT, _POINTER = 1 << 9, 1 << 4, 8
_NO_STATE = {
    "_is_full_backward_hook",
    "_load_state_dict_post_hooks",
    "_load_state_dict_pre_hooks",
    "_non_persistent_buffers_set",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "training",
}
_OF_ALL = {*vars(nn.Module())}
_MANGLED = re.compile(rb"[./]?_*torch_mangle_\d+")


def slots_of(obj):
    """Return the values in the slots of an object (dict)."""
    found = {}
    for cls in type(obj).__mro__:
        if "__slots__" not in vars(cls):
            continue
        for name, member in vars(cls).items():
            if isinstance(member, MemberDescriptorType) and hasattr(obj, name):
                found[name] = getattr(obj, name)
    return found


def has_python_state(cls):
    """Say whether objects of a class consist of attributes and slots alone (bool).

    Classes that are written in C have more; the rule is that of ``object.__reduce__``.
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


def refuses_pickling(obj):
    """Return why a class of its own accord does not let an object be pickled.

    Returns
    -------
    Exception or None
        None if it does, or if its class does not say how.
    """
    cls = type(obj)
    by_default = (
        cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
    )
    if by_default:
        return None
    try:
        obj.__reduce_ex__(4)
    except Exception as error:
        return error
    return None


def module_state(module):
    """Return what a module consists of: settings, tensors, children and hooks.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    dict
        Without what changes no result, and what every module has and is empty. Hooks
        are listed in their order, as the numbers that they go by depend on how many
        there were before in the process.
    """
    state = {}
    for name, value in vars(module).items():
        if name in _NO_STATE or (name in _OF_ALL and not value):
            continue
        if name in _OF_ALL and name.endswith("hooks"):
            value = _hooks(module, name, value)
        elif name in _OF_ALL and "hooks_" in name:
            continue  # told with the hooks
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


def hooks_for_all_modules():
    """Return the hooks that every module of the process has (dict, empty if none)."""
    kinds = [name for name in vars(torch_module) if name.startswith("_global_")]
    found = {k: vars(torch_module)[k] for k in kinds if k.endswith("_hooks")}
    return {k: [*hooks.values()] for k, hooks in sorted(found.items()) if hooks}


def is_global_generator(obj):
    """Say whether an object is a generator that the whole process draws from (bool)."""
    return (
        obj is random._inst
        or obj is np.random.mtrand._rand
        or (obj is torch.default_generator)
    )


def script_parts(script):
    """Return what a TorchScript module or function is saved as.

    Parameters
    ----------
    script : torch.jit.ScriptModule or torch.jit.ScriptFunction

    Returns
    -------
    list of bytes
        Without the numbers in the names of its classes, which depend on how many
        there were before in the process.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, as TorchScript is
        torch.jit.save(script, buffer)
    parts = []
    with zipfile.ZipFile(buffer) as archive:
        for name in archive.namelist():
            path = name.partition("/")[2]
            if path.endswith(".debug_pkl") or path.startswith(".data/"):
                continue
            content = archive.read(name)
            if not path.startswith("data/"):
                content = _MANGLED.sub(b"", content)
            parts.append((_MANGLED.sub(b"", path.encode()), content))
    return [part for pair in sorted(parts) for part in pair]
