"""Run networks whose output for a sample is no function of that sample alone."""

import torch

from sktransfer.backbones import Section
from sktransfer.compute import seeded_everywhere, state_put_back

__all__ = ["run_alone"]

_SEED = 0


def run_alone(function, z, network):
    """Send samples through a network one at a time, each as if it were the first.

    Draws from the global generators are fixed by one seed for every sample. They, and
    all buffers and attributes that a forward pass changes, are put back after it. So
    what becomes of a sample depends on nothing else.

    Parameters
    ----------
    function : callable
        From a batch of one sample to a tensor of shape (1, ...): the network or a
        method of it.
    z : torch.Tensor of shape (n, ...)
        Activations that the network takes, on its device.
    network : torch.nn.Module
        Whose state is put back.

    Returns
    -------
    torch.Tensor of shape (n, ...)
    """
    modules = _all_modules(network)
    return torch.cat([_run(function, row, modules) for row in z.split(1)])


def _all_modules(network):
    """List what code of the network can change, the wholes of its parts as well."""
    parts = [m for m in network.modules() if isinstance(m, Section)]
    return [*network.modules(), *(m for part in parts for m in part.whole.modules())]


def _run(function, row, modules):
    with seeded_everywhere(_SEED, row.device), state_put_back(modules):
        return function(row.clone())
