"""Weights in bfloat16, rounded so that features stay close to those of float32."""

import torch
from torch import nn

from sktransfer.activations._fold import count_uses, is_plain, is_plain_convolution

__all__ = ["halve", "round_kernels"]


def halve(network):
    """Put convolutions and linear layers into bfloat16, in place.

    Layers that do something to their weights first, or share them, stay in float32.

    Parameters
    ----------
    network : torch.nn.Module

    Returns
    -------
    torch.nn.Module
        The same. Run it under :class:`torch.autocast`.
    """
    for layer, uses in count_uses(network).items():
        if uses > 1:
            continue
        if is_plain_convolution(layer):
            layer.weight = nn.Parameter(round_kernels(layer.weight.detach()), False)
            layer.to(torch.bfloat16)
        elif type(layer) is nn.Linear and is_plain(layer):
            layer.to(torch.bfloat16)
    return network


def round_kernels(weight):
    """Round kernels to bfloat16 so that the sum of each changes as little as it can.

    Neighbouring pixels are much alike, so kernels that look for differences cancel
    almost all of what they see, and rounding their taps one by one leaves an error that
    is large beside the result. From the largest tap to the smallest, each takes over
    what the one before it lost.

    Parameters
    ----------
    weight : torch.Tensor of shape (c_out, c_in, ...)
        float32.

    Returns
    -------
    torch.Tensor of the same shape
        float32, of values that bfloat16 holds exactly.
    """
    taps = weight.flatten(2)  # (c_out, c_in, t)
    largest_first = taps.abs().argsort(2, descending=True)
    rounded, lost = torch.empty_like(taps), torch.zeros_like(taps[..., 0])
    for tap in largest_first.split(1, dim=2):
        wanted = taps.gather(2, tap)[..., 0] + lost
        near = wanted.bfloat16().float()
        rounded.scatter_(2, tap, near[..., None])
        lost = wanted - near
    return rounded.view_as(weight)
