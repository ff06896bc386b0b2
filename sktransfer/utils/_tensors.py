"""Tensors: hashes of their content, and modules on the CPU for pickles."""

import copy
import hashlib
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrizations, parametrize
from torch.utils.weak import WeakIdKeyDictionary


def update_with_tensor(state: Any, tensor: torch.Tensor) -> None:
    """Update a hash with the dtype, shape, layout and values of a tensor.

    The tensor may be dense, sparse, quantised, nested or without data (``meta``), and
    on any device.
    """
    tensor = tensor.detach()
    head = f"{tensor.dtype} {tensor.layout} {tensor.is_quantized} {tensor.is_nested}"
    state.update(head.encode())
    if tensor.is_nested:
        parts = tensor.unbind()
    else:
        state.update(f" {tuple(tensor.shape)} {tensor.is_meta}\n".encode())
        parts = _parts(tensor)
    for part in parts:
        if part is tensor:
            _update_with_values(state, part)
        else:
            update_with_tensor(state, part)


def _parts(tensor):
    """List the dense tensors that hold the values of a tensor."""
    if tensor.is_meta:
        return []
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]  # also if not coalesced
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    if tensor.layout is not torch.strided:
        return [tensor.to_dense()]
    if tensor.is_quantized:
        return [tensor.int_repr(), *_scales(tensor)]
    return [tensor]


def _scales(tensor):
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        scale, zero = tensor.q_scale(), tensor.q_zero_point()
        return [torch.tensor(scale, dtype=torch.float64), torch.tensor(zero)]
    axis = torch.tensor(tensor.q_per_channel_axis())
    return [
        tensor.q_per_channel_scales(),
        tensor.q_per_channel_zero_points(),
        axis,
    ]


def _update_with_values(state, tensor):
    flat = tensor.to("cpu").resolve_conj().resolve_neg().contiguous().reshape(-1)
    if flat.numel():
        state.update(flat.view(torch.uint8).numpy())


def tensor_digest(tensor: torch.Tensor) -> bytes:
    """Return the hash of a tensor's content, as :func:`update_with_tensor` reads it."""
    state = hashlib.sha256()
    update_with_tensor(state, tensor)
    return state.digest()


class TensorDigests:
    """Hashes of tensors, each computed again only once its tensor is written to.

    Writes that torch does not count as versions of a tensor, such as those to its
    ``data``, are not noticed.
    """

    def __init__(self):
        self._known = WeakIdKeyDictionary()  # tensor: (stamp, hash)

    def __reduce__(self):
        return TensorDigests, ()  # copies and pickles hold other tensors

    def digest(self, tensor: torch.Tensor) -> bytes:
        """Return the hash of a tensor."""
        stamp = _stamp(tensor)
        known = self._known.get(tensor)
        if known is not None and known[0] == stamp:
            return known[1]
        digest = tensor_digest(tensor)
        if stamp is not None:
            self._known[tensor] = stamp, digest
        return digest


def _stamp(tensor):
    """Return a tuple that changes when a tensor is written to, or None."""
    if tensor.is_inference() or tensor.layout is not torch.strided:
        return None
    return tensor._version, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape)


def on_cpu(module: nn.Module) -> Any:
    """Return a module for a pickle: its copy has all tensors on the CPU.

    A module that is on another device is copied; tensors that are on the CPU already
    are shared with the copy. What is returned for a module with parametrizations is no
    module, but becomes one when it is unpickled or copied.
    """
    tensors = _tensors(module)
    if any(tensor.device.type != "cpu" for tensor in tensors):
        module = copy.deepcopy(
            module, {id(tensor): _moved(tensor) for tensor in tensors}
        )
    has_any = any(map(parametrize.is_parametrized, module.modules()))
    return _Parametrized(module) if has_any else module


class _Parametrized:
    """Stands in a pickle for a module whose layers have parametrizations.

    torch makes a class for each such layer, which can be copied but not be pickled. The
    pickle holds the layers with the classes that they had before.
    """

    def __init__(self, module):
        self._module = module

    def __reduce__(self):
        tensors = _tensors(self._module)
        plain = copy.deepcopy(self._module, {id(tensor): tensor for tensor in tensors})
        for layer in filter(parametrize.is_parametrized, plain.modules()):
            layer.__class__ = parametrize.type_before_parametrizations(layer)
            hooks = layer._load_state_dict_pre_hooks
            for number in [n for n, hook in hooks.items() if _renames(hook)]:
                del hooks[number]
        return _with_parametrizations, (plain,)


def _renames(hook):
    """Return whether a hook is that by which `weight_norm` reads old checkpoints.

    It is a function inside a function, which cannot be pickled.
    """
    return getattr(hook, "hook", hook).__module__ == parametrizations.__name__


def _with_parametrizations(module):
    """Give layers the classes by which torch computes their tensors, and return all.

    `register_parametrization` does so as well, but computes the tensors anew.
    """
    for layer in filter(parametrize.is_parametrized, module.modules()):
        parametrize._inject_new_class(layer)
        for name in layer.parametrizations:
            parametrize._inject_property(layer, name)
    return module


def _tensors(module):
    """List the parameters and buffers, and the tensors that are plain attributes."""
    attributes = [v for m in module.modules() for v in vars(m).values()]
    plain = filter(torch.is_tensor, attributes)
    found = [*module.parameters(), *module.buffers(), *plain]
    return [tensor for tensor in found if not is_lazy(tensor)]


def _moved(tensor):
    if tensor.device.type == "cpu":
        return tensor
    values = tensor.detach().cpu()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(values, tensor.requires_grad)
    return values
