"""Memory layout of convolutions."""

import torch

__all__ = ["channels_last", "channels_second", "use_channels_last"]


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
    maps = z.ndim == 4
    return _lay_out(z, torch.channels_last if maps else torch.contiguous_format)


def channels_second(z):
    """Lay out activations as their axes are ordered.

    Parameters
    ----------
    z : torch.Tensor

    Returns
    -------
    torch.Tensor of the same values
    """
    return _lay_out(z, torch.contiguous_format)


def _lay_out(z, memory_format):
    """Lay out a tensor, down to the strides of axes of length one.

    Kernels are chosen by strides, and those of such an axis are free: without this
    they would tell where a tensor came from.
    """
    z = z.contiguous(memory_format=memory_format)
    strides = torch.empty(z.shape, device="meta", memory_format=memory_format).stride()
    return z if z.stride() == strides else z.as_strided(z.shape, strides)


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
