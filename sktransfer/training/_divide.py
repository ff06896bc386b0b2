"""Whether batches of a network can be trained on in parts, several at a time."""

import torch

from sktransfer.activations import is_plain
from sktransfer.compute import seeded

__all__ = ["PART_SIZE", "is_divisible"]

# Each part writes gradients of all weights: fewer samples cost nearly as much.
PART_SIZE = 16
# Below so many multiply-adds for a batch, parts cost more than they save.
_FEWEST = 50_000_000
_LIBRARIES = ("torch", "timm", "torchvision", "sktransfer")


def is_divisible(network, z, multiply_adds):
    """Say whether threads may compute parts of a batch with a network.

    That depends on the network alone, and not on how many threads there are, since the
    gradients of parts are rounded otherwise than those of a batch.

    Parameters
    ----------
    network : Network
        In train mode.
    z : torch.Tensor of shape (n, ...)
        Some activations, n >= 2.
    multiply_adds : int
        Of a batch.

    Returns
    -------
    bool
        False if layers draw, look at the whole batch or keep statistics of it; if
        layers are no library's, which may keep what they compute in attributes; and if
        there is too little to compute.
    """
    if multiply_adds < _FEWEST or not _is_of_libraries(network):
        return False
    buffers = {name: b.clone() for name, b in network.named_buffers()}
    with seeded(0), torch.no_grad():
        before = torch.get_rng_state()
        whole = network.scores(z)
        drew = not torch.equal(before, torch.get_rng_state())
        alone = network.scores(z[:1]) if not drew else whole[:1]
    moved = False
    for name, buffer in network.named_buffers():
        if not torch.equal(buffer, buffers[name]):
            moved = True
            buffer.copy_(buffers[name])
    return not (drew or moved) and torch.allclose(alone, whole[:1], 1e-2, 1e-3)


def _is_of_libraries(network):
    return all(
        type(layer).__module__.partition(".")[0] in _LIBRARIES and is_plain(layer)
        for layer in network.modules()
    )
