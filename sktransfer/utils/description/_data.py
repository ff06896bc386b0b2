"""Objects that are described by their content: arrays, tensors, images, paths, …."""

import hashlib
import io
import logging
import pathlib
import re
import types
import warnings
import weakref
import zipfile

import numpy as np
import torch
from PIL import Image
from torch.nn.parameter import is_lazy

from sktransfer.utils._tensors import TensorDigests, tensor_digest
from sktransfer.utils.description._libraries import library_version
from sktransfer.utils.description._objects import (
    Unknown,
    by_name,
    is_global_generator,
    take_apart,
)

PLAIN_TENSORS = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
# Operators in these namespaces are part of torch and torchvision.
_NAMESPACES = {"aten", "prim", "prims", "quantized", "torchvision"}
_MANGLED = re.compile(rb"[./]?_*torch_mangle_\d+")


@take_apart.register(torch.Tensor)
def tensor_parts(tensor: torch.Tensor, digests: TensorDigests | None = None) -> list:
    """Take a tensor apart: the hash of its content, its class and its attributes.

    Its device does not count, nor whether it is a parameter. Hashes of its content are
    taken from `digests` where they are given.
    """
    cls = type(tensor)
    parts = ["tensor", *([] if cls in PLAIN_TENSORS else [cls])]
    if is_lazy(tensor):
        return [*parts, "lazy", cls.__name__, tensor.data.dtype]
    digest = tensor_digest if digests is None else digests.digest
    return [*parts, digest(tensor), by_name(vars(tensor).items())]


@take_apart.register
def _(array: np.ndarray):
    parts: list = ["array", array.dtype.descr, array.shape]
    if type(array) is not np.ndarray:
        # The content of a memmap is all that it is; its attributes name the file.
        is_map = isinstance(array, np.memmap)
        attributes = {} if is_map else getattr(array, "__dict__", {})
        parts += [type(array), by_name(attributes.items())]
    array = array.view(np.ndarray)
    if array.dtype.hasobject:
        return [*parts, *array.reshape(-1).tolist()]
    data = np.ascontiguousarray(array).reshape(-1)
    content = hashlib.sha256(data.view(np.uint8).data if array.size else b"")
    return [*parts, content.digest()]


@take_apart.register
def _(value: np.generic):
    content = value.item() if value.dtype.hasobject else value.tobytes()
    return ["scalar", value.dtype.descr, content]


@take_apart.register
def _(picture: Image.Image):
    parts = picture.mode, picture.size, picture.tobytes(), picture.getpalette()
    return ["picture", *parts, picture.info.get("transparency")]


@take_apart.register
def _(generator: torch.Generator):
    if is_global_generator(generator):
        return ["generator of torch"]
    return ["torch.Generator", generator.device, generator.get_state().numpy()]


@take_apart.register
def _(pattern: re.Pattern):
    return ["pattern", pattern.flags, pattern.pattern]


@take_apart.register
def _(path: pathlib.PurePath):
    return ["path", type(path), str(path)]


@take_apart.register
def _(logger: logging.Logger):
    return ["logger", logger.name]


@take_apart.register
def _(reference: weakref.ReferenceType):
    return ["reference", reference()]


@take_apart.register
def _(value: slice):
    return ["slice", value.start, value.stop, value.step]


@take_apart.register
def _(value: types.MappingProxyType):
    return ["proxy", dict(value)]


@take_apart.register
def _(operator: torch._ops.OpOverload | torch._ops.OpOverloadPacket):
    space, _, name = str(operator).partition(".")
    unknown = [] if space in _NAMESPACES else [_unknown(space, name)]
    return ["operator", str(operator), library_version("torch"), *unknown]


def unknown_operators(names: set[str]) -> list[Unknown]:
    """Return reasons for the operators of no library that code may call.

    The names are the attributes that the code refers to. It may call an operator if
    they contain both the operator's namespace and its name.
    """
    operators = (name.partition("::") for name in _operator_names())
    return [
        _unknown(space, name)
        for space, _, name in operators
        if space not in _NAMESPACES and {space, name.partition(".")[0]} <= names
    ]


def _operator_names():
    return sorted(torch._C._dispatch_get_all_op_names())


def _unknown(space, name):
    return Unknown(
        f"the operator `torch.ops.{space}.{name}`, which torch knows by name only"
    )


@take_apart.register
def _(script: torch.jit.ScriptModule | torch.jit.ScriptFunction):
    return ["script", type(script), *script_parts(script)]


def script_parts(script: torch.jit.ScriptModule | torch.jit.ScriptFunction) -> list:
    """Return the bytes that a TorchScript module or function is saved as.

    The numbers in the names of its classes are left out, as they depend on how many
    classes there were before in the process.
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
