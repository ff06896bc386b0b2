"""A text that changes with anything that a section computes."""

import hashlib
import re
import uuid
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType

import joblib
import torch
from torch import nn

__all__ = ["fingerprint", "fingerprint_tensors"]

# Of these only the versions change the code, and their layers' classes are named.
_LIBRARIES = ("timm", "torch", "torchvision")
_PLAIN = (int, float, complex, str, bytes, torch.dtype, torch.device, type(None))
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def fingerprint(section):
    """Hash what a section computes: its code, its layers and its weights.

    Parameters
    ----------
    section : Section

    Returns
    -------
    str
        Hexadecimal, 32 digits. The same in every process.
    """
    digest = hashlib.sha256(section.code.encode())
    for name, layer in section.named_modules():
        if layer is not section:
            digest.update(f"{name}: {_description(layer)}\n".encode())
    tensors = {**dict(section.named_parameters()), **dict(section.named_buffers())}
    _update(digest, tensors)
    return digest.hexdigest()[:32]


def fingerprint_tensors(tensors):
    """Hash tensors and their names, whatever computes with them.

    Parameters
    ----------
    tensors : dict of str to torch.Tensor
        A state dict.

    Returns
    -------
    str
        Hexadecimal, 32 digits. The same in every process, on any device and with any
        versions of the libraries.
    """
    digest = hashlib.sha256()
    _update(digest, tensors)
    return digest.hexdigest()[:32]


def _update(digest, tensors):
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_raw_bytes(tensor))


def _description(layer):
    """Say what a layer is: its class, its settings, and code that no library has."""
    described = repr(layer) if next(layer.children(), None) is None else ""
    text = f"{type(layer).__name__} {described} {_constants(layer)} {_code(layer)}"
    return _ADDRESS.sub("", text)


def _constants(layer):
    """Attributes of a layer, which its repr may leave out, as (name, text)."""
    skipped = {"training", "num_batches_tracked", *vars(nn.Module())}
    return [
        (name, _describe(value))
        for name, value in sorted(vars(layer).items())
        if name not in skipped and not isinstance(value, nn.Module)
    ]


def _describe(value):
    """Say what a value is; a text that never comes again where that cannot be said."""
    try:
        return _describe_value(value)
    except Exception:  # what refuses to be pickled, or contains itself
        return uuid.uuid4().hex


def _describe_value(value):
    if torch.is_tensor(value):
        return hashlib.sha256(_raw_bytes(value)).hexdigest()
    if isinstance(value, partial):
        return _describe_value([value.func, value.args, value.keywords])
    if isinstance(value, dict):
        return _describe_value([*value.items()])
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}{[_describe_value(v) for v in value]}"
    if isinstance(value, FunctionType) and not _is_of_a_library(value):
        captured = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = value.__defaults__, value.__kwdefaults__, captured
        return f"{_instructions(value.__code__)} {_describe_value(parts)}"
    if isinstance(value, FunctionType | BuiltinFunctionType | type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, nn.Module):  # described by itself, as a submodule
        return type(value).__name__
    if isinstance(value, _PLAIN):
        return repr(value)
    return joblib.hash(value)


def _is_of_a_library(thing):
    return (thing.__module__ or "").partition(".")[0] in _LIBRARIES


def _code(layer):
    """Hash the methods of a layer that comes from no library (str, empty if it does).

    A layer without children is not traced, so the section's code only calls it.
    """
    found = [
        (name, _instructions(method.__code__))
        for cls in type(layer).__mro__
        if not _is_of_a_library(cls)
        for name, method in sorted(vars(cls).items())
        if isinstance(method, FunctionType)
    ]
    return hashlib.sha256(repr(found).encode()).hexdigest() if found else ""


def _instructions(code):
    """Return what a function does, without the place where it is written."""
    constants = [_instructions(c) if isinstance(c, CodeType) else c for c in _set(code)]
    return code.co_code, code.co_names, constants


def _set(code):
    """Constants of a function, in an order that does not depend on the process."""
    return [
        sorted(map(repr, c)) if isinstance(c, frozenset) else c for c in code.co_consts
    ]


def _raw_bytes(tensor):
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
