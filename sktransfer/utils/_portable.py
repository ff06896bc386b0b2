"""Modules on the CPU: pickles of others load where there is the same device only."""

import copy

import torch
from torch import nn
from torch.nn.parameter import is_lazy

__all__ = ["on_cpu"]


def on_cpu(module):
    """Return a module whose tensors are on the CPU, and leave the given one alone.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    torch.nn.Module
        The given one if it is on the CPU; otherwise a copy, which shares with it the
        tensors that are.
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
