"""From an activation of any layout to one vector a sample."""

import math

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["Pool", "check_pooling", "layout_of"]

POOLINGS = ("avg", "max", "avgmax", "cls", "flatten")


def layout_of(shape, input_shape):
    """Say how one sample's activation is laid out.

    Parameters
    ----------
    shape : tuple of int
        Of one sample's activation.
    input_shape : tuple of int
        Of one sample's model input.

    Returns
    -------
    {"vector", "tokens", "channels_first", "channels_last", "other"}
        A map is the one of the two whose height and width are in the proportion of
        the model input's; (c, h, w) if both are.
    """
    if len(shape) == 1:
        return "vector"
    if len(shape) == 2:
        return "tokens"
    if len(shape) != 3 or len(input_shape) != 3:
        return "other"
    aspect = math.log(input_shape[1] / input_shape[2])
    first = abs(math.log(shape[1] / shape[2]) - aspect)
    last = abs(math.log(shape[0] / shape[1]) - aspect)
    return "channels_last" if last < first else "channels_first"


def check_pooling(pooling, pool_size, shape, input_shape, where):
    """Raise if an activation cannot be pooled in the way asked for.

    Parameters
    ----------
    pooling, pool_size
        See :class:`Pool`.
    shape, input_shape : tuple of int
        See :func:`layout_of`.
    where : str
        Name of the stage, for the message.

    Raises
    ------
    ValueError
        If ``pooling="cls"`` and there is no class token.
    """
    tokens = layout_of(shape, input_shape) == "tokens"
    if pooling == "cls" and not (tokens and _n_extra_tokens(shape[0], input_shape)):
        raise ValueError(
            f"`pooling='cls'` needs a class token, and the activation of stage "
            f"{where!r} has none: its shape is {shape}. Use 'avg', 'max' or 'avgmax'."
        )


def _grid(n_tokens, input_shape):
    """Height and width of the largest grid of tokens with the input's proportions."""
    if len(input_shape) != 3:
        return 1, n_tokens
    aspect = input_shape[1] / input_shape[2]
    width = math.floor(math.sqrt(n_tokens / aspect) + 1e-9)
    return max(1, round(width * aspect)), max(1, width)


def _n_extra_tokens(n_tokens, input_shape):
    """Count tokens that are no patch (class, distillation, registers); they lead."""
    height, width = _grid(n_tokens, input_shape)
    extra = n_tokens - height * width
    return extra if 0 <= extra <= 16 else 0


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
        self.layout = layout_of(shape, input_shape)
        n_tokens = shape[0] if self.layout == "tokens" else 0
        self.n_extra = _n_extra_tokens(n_tokens, input_shape) if n_tokens else 0
        self.grid = _grid(n_tokens - self.n_extra, input_shape) if n_tokens else None

    def n_features(self, shape):
        """Return how many features one sample's activation of this shape gives."""
        if self.layout in ("vector", "other") or self.pooling == "flatten":
            return math.prod(shape)
        channels = shape[0] if self.layout == "channels_first" else shape[-1]
        if self.pooling == "cls":
            return channels
        return channels * self.pool_size**2 * (2 if self.pooling == "avgmax" else 1)

    def extra_repr(self):
        """Name the settings."""
        return f"{self.pooling!r}, pool_size={self.pool_size}, layout={self.layout!r}"

    def forward(self, z):
        """Pool.

        Parameters
        ----------
        z : torch.Tensor of shape (n, ...)

        Returns
        -------
        torch.Tensor of shape (n, d)
        """
        if self.layout in ("vector", "other") or self.pooling == "flatten":
            return z.flatten(1)
        if self.pooling == "cls":
            return z[:, 0]
        z = self._as_map(z)  # (n, c, h, w)
        parts = []
        if self.pooling in ("avg", "avgmax"):
            parts.append(F.adaptive_avg_pool2d(z, self.pool_size).flatten(1))
        if self.pooling in ("max", "avgmax"):
            parts.append(F.adaptive_max_pool2d(z, self.pool_size).flatten(1))
        return torch.cat(parts, 1)

    def _as_map(self, z):
        if self.layout == "channels_last":
            return z.permute(0, 3, 1, 2)
        if self.layout == "tokens":
            patches = z[:, self.n_extra :]  # (n, t, c)
            height, width = self.grid
            if height * width != patches.shape[1]:
                height, width = 1, patches.shape[1]
            return patches.transpose(1, 2).unflatten(2, (height, width))
        return z
