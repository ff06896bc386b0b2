"""Wrappers of networks that cannot be cut."""

from torch import nn

from sktransfer.backbones._boundaries import tensors_in


class Whole(nn.Sequential):
    """Wraps a network that cannot be cut as one layer."""


class Called(nn.Module):
    """Calls a network whose class replaces ``__call__``, which torch.fx would trace."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        """Return what the network does."""
        return self.network(x)


class Unpacked(Called):
    """Returns the only tensor in the output of a network."""

    def forward(self, x):
        """Return the tensor."""
        (tensor,) = tensors_in(self.network(x))
        return tensor


def unwrap(module):
    """Return the network that was given, without its wrappers."""
    while isinstance(module, Whole | Called):
        module = module.network
    return module
