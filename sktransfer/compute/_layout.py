"""Memory layout of convolutions."""

import torch

__all__ = ["channels_last", "use_channels_last"]


def channels_last(z):
    """Lay out maps with the channels last; anything else is made contiguous.

    Maps take the layout of their kernels in the end, but convolutions and their
    gradients are slow until they do. And where layouts differ, rounding does.

    Parameters
    ----------
    z : torch.Tensor

    Returns
    -------
    torch.Tensor of the same values
    """
    if z.ndim != 4:
        return z.contiguous()
    return z.contiguous(memory_format=torch.channels_last)


def use_channels_last(module):
    """Lay out kernels with the channels last, in place: what is fast for images.

    Maps follow the layout of the kernels. No value changes.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    torch.nn.Module
        The same.
    """
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(
                memory_format=torch.channels_last
            )
    return module
