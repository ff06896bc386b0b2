"""Of what a network of the libraries is built, whatever its weights are."""

import hashlib
from functools import partial
from types import BuiltinFunctionType, FunctionType

import torch
from torch import nn

from sktransfer.utils import survey_class

__all__ = ["outline"]

_LIBRARIES = ("timm", "torch", "torchvision")
_PLAIN = (int, float, str, bool, torch.dtype, torch.device, torch.Size, type(None))
_TENSORS = ("_parameters", "_buffers")
_STRUCTURE = {*vars(nn.Module())} - {*_TENSORS}


def outline(module):
    """Describe layers, their settings and the shapes of their tensors.

    Networks of one outline compute alike, but for their weights: what was found out
    about one holds for the other.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    str or None
        Hexadecimal, 32 digits. None for a network with code that is no library's, such
        as that of a layer, a hook or a method that is replaced on an instance.
    """
    try:
        parts = [
            (path, _describe_layer(layer))
            for path, layer in module.named_modules(remove_duplicate=False)
        ]
    except _UnknownError:
        return None
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


class _UnknownError(Exception):
    """Something has code of its own, or may have."""


def _describe_layer(layer):
    own = vars(layer)
    hooks = any(own[name] for name in own if name.endswith("_hooks"))
    replaced = any(callable(getattr(type(layer), name, None)) for name in own)
    if hooks or replaced or survey_class(type(layer)).foreign:
        raise _UnknownError
    settings = {k: v for k, v in sorted(own.items()) if k not in _STRUCTURE}
    return _name(type(layer)), _describe(settings)


def _describe(value):
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {tuple(value.shape)} {type(value).__name__}"
    if isinstance(value, dict):
        return [(str(key), _describe(part)) for key, part in value.items()]
    if isinstance(value, list | tuple | set):
        return [type(value).__name__, *map(_describe, value)]
    if isinstance(value, partial):
        return _describe([value.func, value.args, value.keywords])
    if isinstance(value, nn.Module):  # described by itself, if it is a submodule
        raise _UnknownError
    if isinstance(value, FunctionType | BuiltinFunctionType | type):
        return _name(value)
    raise _UnknownError


def _name(thing):
    """Return the full name of a library's class or function."""
    home = thing.__module__ or ""
    if home.partition(".")[0] not in _LIBRARIES or "<" in thing.__qualname__:
        raise _UnknownError
    return f"{home}.{thing.__qualname__}"
