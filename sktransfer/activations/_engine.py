"""Run one section of a backbone, frozen, as fast as its results allow."""

import torch

from sktransfer.activations._fold import fold_batch_norm
from sktransfer.activations._halve import halve
from sktransfer.compute import (
    channels_last,
    channels_second,
    pad_rows,
    use_channels_last,
)

__all__ = ["lay_out", "run_section"]


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
    device, half = runtime.device, runtime.precision == "bfloat16"
    network = _prepare(backbone.owner(stop), start, stop, device, runtime.precision)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=half)
    with torch.inference_mode(), autocast:
        padded = lay_out(pad_rows(z, runtime.batch_size), runtime.precision)
        return network(padded)[: len(z)]


def lay_out(z, precision):
    """Give maps one layout, wherever they come from: others round differently.

    Parameters
    ----------
    z : torch.Tensor of shape (n, ...)
    precision : {"float32", "folded", "bfloat16"}
        See :func:`sktransfer.compute.resolve_precision`.

    Returns
    -------
    torch.Tensor of the same values
    """
    return channels_second(z) if precision == "float32" else channels_last(z)


def _prepare(backbone, start, stop, device, precision):
    """Return the section as it runs; the backbone remembers it."""
    section = backbone.frozen_section(start, stop)
    if precision == "float32":
        return section.to(device)
    key = (start, stop, device, precision)
    if key not in backbone.prepared_sections:
        network = fold_batch_norm(section).requires_grad_(False)
        network = halve(network) if precision == "bfloat16" else network
        backbone.prepared_sections[key] = use_channels_last(network).to(device)
    return backbone.prepared_sections[key]
