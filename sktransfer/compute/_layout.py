"""Memory layout of convolutions."""

import torch

__all__ = ["use_channels_last"]


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
