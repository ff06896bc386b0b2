"""Descriptions of plain values, containers and arrays."""

import hashlib
import logging
import os
import re
import struct
import threading
import types
import weakref

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from sktransfer.utils._object_state import is_global_generator

__all__ = [
    "VALUES_BY_KIND",
    "VALUES_BY_TYPE",
    "add_items",
    "add_operators",
    "add_pairs",
    "add_set",
]

_TENSORS = (torch.Tensor, nn.Parameter, nn.Buffer)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
# What computes in these is part of torch and torchvision.
_NAMESPACES = {"aten", "prim", "prims", "quantized", "torchvision"}


def add_items(d, value):
    """Describe the items of a list."""
    d.put("list", len(value))
    for item in [*value]:  # which may grow meanwhile
        d.add(item)


def add_pairs(d, value):
    """Describe the items of a dict, in order."""
    d.put("dict", len(value))
    for key, item in [*value.items()]:
        d.add(key)
        d.add(item)


def _add_repr(d, value):
    d.put(type(value).__name__, repr(value))


def _add_float(d, value):
    d.put("float", struct.pack("<d", value))


def _add_complex(d, value):
    d.put("complex", struct.pack("<dd", value.real, value.imag))


def _add_str(d, value):
    d.put("str", value.encode("utf-8", "surrogatepass"))


def _add_bytes(d, value):
    d.put(type(value).__name__, bytes(value))


def _add_tuple(d, value):
    d.add_tuple(value)


def _add_list(d, value):
    if d.is_new(value):
        add_items(d, value)


def _add_dict(d, value):
    if d.is_new(value):
        add_pairs(d, value)


def add_set(d, value):
    """Describe the items of a set, in an order that is the same in every process."""
    d.put(type(value).__name__, len(value))
    open_sets = d.found.open_sets
    if id(value) in open_sets:
        return
    open_sets.add(id(value))
    digests = []
    for item in value:
        single = d.twin()
        single.add(item)
        digests.append(single.hexdigest())
    open_sets.discard(id(value))
    d.put(*sorted(digests))


def _add_weak(d, value):
    d.put("weakref")
    d.add(value())


def _add_tensor(d, tensor):
    if type(tensor) not in _TENSORS and d.is_new(tensor):
        d.add(type(tensor))
    if is_lazy(tensor):
        d.put("lazy", type(tensor).__name__, tensor.data.dtype)
        return
    d.put("tensor", d.tensors.digest(tensor))
    if vars(tensor):
        d.add_named(vars(tensor))


def _add_array(d, array):
    if type(array) is not np.ndarray:
        if not d.is_new(array):
            return
        d.add(type(array))
        if not isinstance(array, np.memmap):  # whose file is its content
            d.add_named(getattr(array, "__dict__", {}))
        array = array.view(np.ndarray)
    d.put("array", array.dtype.descr, array.shape)
    if array.dtype.hasobject:
        d.add_tuple(tuple(array.reshape(-1).tolist()))
    elif array.size:
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        d.put(hashlib.sha256(data).digest())


def _add_scalar(d, value):
    d.put("scalar", value.dtype.descr)
    d.add(value.item()) if value.dtype.hasobject else d.put(value.tobytes())


def _add_picture(d, picture):
    d.put("picture", picture.mode, picture.size, picture.tobytes())
    d.add(picture.getpalette())
    d.add(picture.info.get("transparency"))


def _add_torch_generator(d, generator):
    if is_global_generator(generator):
        d.put("the generator of torch")
        return
    d.put("torch.Generator", generator.device)
    _add_array(d, generator.get_state().numpy())


def _add_type_and_repr(d, value):
    d.put(type(value).__qualname__, repr(value))


def _add_pattern(d, pattern):
    d.put("pattern", pattern.flags)
    d.add(pattern.pattern)


def _add_path(d, path):
    d.put(type(path).__name__)
    _add_str(d, str(path))


def _add_logger(d, logger):
    d.put("logger", logger.name)


def _add_by_type(d, value):
    d.put(type(value).__qualname__)


def _add_range(d, value):
    d.put("range", value.start, value.stop, value.step)


def _add_operator(d, operator):
    space, _, name = str(operator).partition(".")
    if space not in _NAMESPACES:
        _give_up_operator(d, space, name)
    d.put("operator", operator, d.version("torch"))


def add_operators(d, names):
    """Describe the operators whose namespace and name are among those in code."""
    for operator in sorted(torch._C._dispatch_get_all_op_names()):
        space, _, name = operator.partition("::")
        if space not in _NAMESPACES and {space, name.partition(".")[0]} <= names:
            _give_up_operator(d, space, name)


def _give_up_operator(d, space, name):
    d.give_up(
        f"the operator `torch.ops.{space}.{name}`, which torch knows by name only"
    )


def _add_slice(d, value):
    d.put("slice")
    d.add_tuple((value.start, value.stop, value.step))


def _add_proxy(d, value):
    add_pairs(d, dict(value))


VALUES_BY_TYPE: dict = {
    type(None): _add_repr,
    type(...): _add_repr,
    type(NotImplemented): _add_repr,
    bool: _add_repr,
    int: _add_repr,
    slice: _add_slice,
    range: _add_range,
    float: _add_float,
    complex: _add_complex,
    str: _add_str,
    bytes: _add_bytes,
    bytearray: _add_bytes,
    tuple: _add_tuple,
    list: _add_list,
    dict: _add_dict,
    set: add_set,
    frozenset: add_set,
    types.MappingProxyType: _add_proxy,
    torch.dtype: _add_type_and_repr,
    torch.device: _add_type_and_repr,
    torch.layout: _add_type_and_repr,
    torch.memory_format: _add_type_and_repr,
    torch.finfo: _add_type_and_repr,
    torch.iinfo: _add_type_and_repr,
    RemovableHandle: _add_by_type,  # the hook is told with its module
    **dict.fromkeys(_LOCKS, _add_by_type),
    **dict.fromkeys(_TENSORS, _add_tensor),
}
VALUES_BY_KIND = (
    (torch.Tensor, _add_tensor),
    (np.ndarray, _add_array),
    (np.generic, _add_scalar),
    (torch._ops.OpOverload, _add_operator),
    (torch._ops.OpOverloadPacket, _add_operator),
    (torch.Generator, _add_torch_generator),
    (Image.Image, _add_picture),
    (re.Pattern, _add_pattern),
    (os.PathLike, _add_path),
    (logging.Logger, _add_logger),
    (weakref.ReferenceType, _add_weak),
)
