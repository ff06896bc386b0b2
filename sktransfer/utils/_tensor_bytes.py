"""The content of tensors, hashed."""

import hashlib
import weakref

import torch

__all__ = ["TensorDigests", "update_with_tensor"]


def update_with_tensor(state, tensor):
    """Hash the dtype, shape, layout and values of a tensor, on whatever device it is.

    Parameters
    ----------
    state : hashlib hash
    tensor : torch.Tensor
        Sparse, quantised, nested, without data (``meta``) or an ordinary one.
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


class TensorDigests:
    """Hashes of tensors, each computed once as long as nothing is written to it.

    What is written to a tensor past torch's count of versions, as to its ``data``, is
    not seen.
    """

    def __init__(self):
        self._known = {}

    def digest(self, tensor):
        """Return the hash of a tensor (bytes)."""
        number, stamp = id(tensor), _stamp(tensor)
        known = self._known.get(number)
        if known is not None and known[0]() is tensor and known[1] == stamp:
            return known[2]
        state = hashlib.sha256()
        update_with_tensor(state, tensor)
        if stamp is not None:
            reference = weakref.ref(tensor, lambda ref: self._forget(number, ref))
            self._known[number] = reference, stamp, state.digest()
        return state.digest()

    def _forget(self, number, reference):
        known = self._known.get(number)
        if known is not None and known[0] is reference:
            self._known.pop(number, None)


def _stamp(tensor):
    """Return what changes when a tensor is written to; None if that is not known."""
    if tensor.is_inference() or tensor.layout is not torch.strided:
        return None
    return tensor._version, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape)
