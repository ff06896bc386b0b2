"""How an activation is laid out, and its map of places."""

import math

import torch

__all__ = ["Layout"]


class Layout:
    """Layout of one sample's activation: which axes are places and which channels.

    Parameters
    ----------
    shape : tuple of int
        Of one sample's activation.
    input_shape : tuple of int
        Of one sample's model input.

    Attributes
    ----------
    kind : {"vector", "tokens", "channels_first", "channels_last", "other"}
        A map is the one of the two whose height and width are in the proportion of
        the model input's; (c, h, w) if both are.
    n_extra : int
        Tokens that are no patch (class, distillation, registers); they lead.
    grid : (int, int) or None
        Height and width of the grid of the other tokens.
    """

    def __init__(self, shape, input_shape):
        self.kind = _kind(shape, input_shape)
        self.n_extra, self.grid = 0, None
        if self.kind == "tokens":
            self.n_extra = _n_extra_tokens(shape[0], input_shape)
            n_patches = shape[0] - self.n_extra
            height, width = _grid(n_patches, input_shape)
            fits = height * width == n_patches
            self.grid = (height, width) if fits else (1, n_patches)

    @property
    def has_places(self):
        """Whether the activation has a map (bool)."""
        return self.kind not in ("vector", "other")

    def to_map(self, z):
        """Return the map of a batch of activations.

        Parameters
        ----------
        z : torch.Tensor of shape (n, ...)

        Returns
        -------
        torch.Tensor of shape (n, c, h, w)
            Without the tokens that are no patch.
        """
        if self.kind == "channels_last":
            return z.permute(0, 3, 1, 2)
        if self.kind == "tokens":
            patches = z[:, self.n_extra :]  # (n, t, c)
            return patches.transpose(1, 2).unflatten(2, self.grid)
        return z

    def from_map(self, places, z):
        """Return activations with another map.

        Parameters
        ----------
        places : torch.Tensor of shape (n, c, h, w)
        z : torch.Tensor of shape (n, ...)
            Activations whose tokens that are no patch are kept.

        Returns
        -------
        torch.Tensor of the shape of z
        """
        if self.kind == "channels_last":
            return places.permute(0, 2, 3, 1)
        if self.kind == "tokens":
            patches = places.flatten(2).transpose(1, 2)
            return torch.cat([z[:, : self.n_extra], patches], 1)
        return places


def _kind(shape, input_shape):
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


def _grid(n_tokens, input_shape):
    """Height and width of the largest grid of tokens with the input's proportions."""
    if len(input_shape) != 3:
        return 1, n_tokens
    aspect = input_shape[1] / input_shape[2]
    width = math.floor(math.sqrt(n_tokens / aspect) + 1e-9)
    return max(1, round(width * aspect)), max(1, width)


def _n_extra_tokens(n_tokens, input_shape):
    height, width = _grid(n_tokens, input_shape)
    extra = n_tokens - height * width
    return extra if 0 <= extra <= 16 else 0
