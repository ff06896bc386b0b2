"""A text that changes with anything that a section computes."""

import hashlib
import re
from types import CodeType, FunctionType

import torch

__all__ = ["fingerprint"]

# Of these only the versions change the code, and their layers' classes are named.
_LIBRARIES = ("timm", "torch", "torchvision")
_PLAIN = (int, float, str, tuple, list, torch.Tensor, type(None))
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
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_raw_bytes(tensor))
    return digest.hexdigest()[:32]


def _description(layer):
    """Say what a layer is: its class, its settings, and code that no library has."""
    described = repr(layer) if next(layer.children(), None) is None else ""
    text = f"{type(layer).__name__} {described} {_constants(layer)} {_code(layer)}"
    return _ADDRESS.sub("", text)


def _constants(layer):
    """Plain attributes of a layer, which its repr may leave out."""
    skipped = ("training", "num_batches_tracked")
    found = {
        k: hashlib.sha256(_raw_bytes(v)).hexdigest() if torch.is_tensor(v) else v
        for k, v in vars(layer).items()
        if isinstance(v, _PLAIN) and not k.startswith("_") and k not in skipped
    }
    return sorted(found.items())


def _code(layer):
    """Hash the methods of a layer that comes from no library (str, empty if it does).

    A layer without children is not traced, so the section's code only calls it.
    """
    found = [
        (name, _instructions(method.__code__))
        for cls in type(layer).__mro__
        if cls.__module__.partition(".")[0] not in _LIBRARIES
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
