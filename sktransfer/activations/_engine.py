"""Run one section of a backbone, frozen, as fast as its results allow."""

import torch

from sktransfer.compute import pad_rows

__all__ = ["run_section"]


def run_section(backbone, start, stop, z, runtime):
    """Compute the activations at one boundary from those at another.

    Parameters
    ----------
    backbone : Backbone
    start, stop : str
        Names of boundaries.
    z : torch.Tensor of shape (n, ...)
        Activations at ``start``, on the device.
    runtime : Runtime

    Returns
    -------
    torch.Tensor of shape (n, ...)
    """
    section = backbone.frozen_section(start, stop).to(runtime.device)
    with torch.inference_mode():
        return section(pad_rows(z, runtime.batch_size))[: len(z)]
