"""Tensors: hashes of their content, and modules on the CPU for pickles."""

import copy
import hashlib
import weakref

import torch
from torch import nn
from torch.nn.parameter import is_lazy

__all__ = ["TensorDigests", "on_cpu", "tensor_digest", "update_with_tensor"]


def update_with_tensor(state, tensor):
    """Update a hash with the dtype, shape, layout and values of a tensor.

    Parameters
    ----------
    state : hashlib hash
    tensor : torch.Tensor
        Dense, sparse, quantised, nested or without data (``meta``), on any device.
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
    """Return the dense tensors that hold the values of one (list)."""
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


def tensor_digest(tensor):
    """Return the hash of a tensor's content, see :func:`update_with_tensor` (bytes).

    Parameters
    ----------
    tensor : torch.Tensor
    """
    state = hashlib.sha256()
    update_with_tensor(state, tensor)
    return state.digest()


class TensorDigests:
    """Hashes of tensors, each computed again only once its tensor is written to.

    Writes that torch does not count as versions of a tensor, such as those to its
    ``data``, are not noticed.
    """

    def __init__(self):
        self._known = {}

    def digest(self, tensor):
        """Return the hash of a tensor (bytes)."""
        number, stamp = id(tensor), _stamp(tensor)
        known = self._known.get(number)
        if known is not None and known[0]() is tensor and known[1] == stamp:
            return known[2]
        digest = tensor_digest(tensor)
        if stamp is not None:
            reference = weakref.ref(tensor, lambda ref: self._forget(number, ref))
            self._known[number] = reference, stamp, digest
        return digest

    def _forget(self, number, reference):
        known = self._known.get(number)
        if known is not None and known[0] is reference:
            self._known.pop(number, None)


def _stamp(tensor):
    """Return something that changes when a tensor is written to, or None (tuple)."""
    if tensor.is_inference() or tensor.layout is not torch.strided:
        return None
    return tensor._version, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape)


def on_cpu(module):
    """Return a module with all of its tensors on the CPU.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    torch.nn.Module
        The given module if it is on the CPU. Otherwise a copy, which shares with the
        given one the tensors that are on the CPU.
    """
    tensors = _tensors(module)
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return module
    return copy.deepcopy(module, {id(tensor): _moved(tensor) for tensor in tensors})


def _tensors(module):
    """List parameters, buffers and what modules hold as plain attributes."""
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
