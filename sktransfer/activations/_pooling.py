"""From an activation of any layout to one vector a sample."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.activations._layout import Layout

__all__ = ["Pool", "check_pooling"]


def check_pooling(pooling, shape, input_shape, where):
    """Raise if an activation cannot be pooled in the way asked for.

    Parameters
    ----------
    pooling : str
        See :class:`Pool`.
    shape, input_shape : tuple of int
        See :class:`Layout`.
    where : str
        Name of the stage, for the message.

    Raises
    ------
    ValueError
        If ``pooling="cls"`` and there is no class token.
    """
    if pooling == "cls" and not Layout(shape, input_shape).n_extra:
        raise ValueError(
            f"`pooling='cls'` needs a class token, and the activation of stage "
            f"{where!r} has none: its shape is {shape}. Use 'avg', 'max' or 'avgmax'."
        )


class Pool(nn.Module):
    """Pool activations to vectors, whatever their layout.

    Parameters
    ----------
    pooling : {"avg", "max", "avgmax", "cls", "flatten"}
        "avgmax" puts average and maximum side by side; "cls" takes the class token;
        "flatten" keeps all. Tokens that are no patch are left out of "avg" and "max".
    pool_size : int
        A grid of ``pool_size`` x ``pool_size`` cells is kept.
    shape : tuple of int
        Of one sample's activation.
    input_shape : tuple of int
        Of one sample's model input.
    """

    def __init__(self, pooling, pool_size, shape, input_shape):
        super().__init__()
        self.pooling = pooling
        self.pool_size = pool_size
        self.layout = Layout(shape, input_shape)
        self.keeps_all = pooling == "flatten" or not self.layout.has_places

    def n_features(self, shape):
        """Return how many features one sample's activation of this shape gives."""
        if self.keeps_all:
            return math.prod(shape)
        channels = shape[0] if self.layout.kind == "channels_first" else shape[-1]
        if self.pooling == "cls":
            return channels
        return channels * self.pool_size**2 * (2 if self.pooling == "avgmax" else 1)

    def extra_repr(self):
        """Name the settings."""
        layout = self.layout.kind
        return f"{self.pooling!r}, pool_size={self.pool_size}, layout={layout!r}"

    def forward(self, z):
        """Pool.

        Parameters
        ----------
        z : torch.Tensor of shape (n, ...)

        Returns
        -------
        torch.Tensor of shape (n, d)
        """
        if self.keeps_all:
            return z.flatten(1)
        if self.pooling == "cls":
            return z[:, 0]
        z = self.layout.to_map(z)  # (n, c, h, w)
        parts = []
        if self.pooling in ("avg", "avgmax"):
            parts.append(F.adaptive_avg_pool2d(z, self.pool_size).flatten(1))
        if self.pooling in ("max", "avgmax"):
            parts.append(F.adaptive_max_pool2d(z, self.pool_size).flatten(1))
        return torch.cat(parts, 1)
