"""Augmentation of activations: what images would go through, on their maps."""

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["ACTIVATION_AUGMENTATIONS", "ActivationAugment"]

ACTIVATION_AUGMENTATIONS = ("flip", "shift", "crop", "drop")
_SHIFT = 0.125  # of the side: the four pixels of 32 that are usual for CIFAR
_CROP = 0.75  # side of the smallest crop
_DROP = 0.3  # side of the square that is dropped; share of entries of a vector


class ActivationAugment(nn.Module):
    """Flip, shift, crop and drop activations at random, in train mode only.

    Each sample has a flip, a shift and a crop of its own, drawn together as one affine
    map and applied with bilinear interpolation, and loses a square with probability
    one half. Of activations without places, entries are dropped and the rest scaled.

    Parameters
    ----------
    kinds : collection of {"flip", "shift", "crop", "drop"}
    layout : Layout
        Of the activations.

    References
    ----------
    E. Konuk et al. (2024). Learning from Offline Foundation Features with Tensor
    Augmentations. https://arxiv.org/abs/2410.02527
    """

    def __init__(self, kinds, layout):
        super().__init__()
        self.kinds = tuple(kinds)
        self.layout = layout

    def forward(self, z):
        """Augment.

        Parameters
        ----------
        z : torch.Tensor of shape (n, ...)

        Returns
        -------
        torch.Tensor of the same shape
        """
        if not self.training:
            return z
        if not self.layout.is_spatial:
            return F.dropout(z, _DROP) if "drop" in self.kinds else z
        places = self.layout.to_map(z)  # (n, c, h, w)
        if {"flip", "shift", "crop"} & {*self.kinds}:
            places = self._move(places)
        if "drop" in self.kinds:
            places = self._drop(places)
        return self.layout.from_map(places, z)

    def _move(self, places):
        """Look at each map through a frame of its own, with zeros around the map."""
        n = len(places)
        theta = torch.zeros(n, 2, 3)  # from the frame to the map, both in [-1, 1]
        scale, shift, side = torch.ones(n), torch.zeros(n, 2), torch.ones(n)
        if "crop" in self.kinds:
            scale.uniform_(_CROP, 1)
            shift += (1 - scale)[:, None] * torch.empty(n, 2).uniform_(-1, 1)
        if "shift" in self.kinds:
            shift += 2 * torch.empty(n, 2).uniform_(-_SHIFT, _SHIFT)
        if "flip" in self.kinds:
            side = 2.0 * torch.randint(2, (n,)) - 1
        theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side * scale, scale, shift
        theta = theta.to(places)
        grid = F.affine_grid(theta, list(places.shape), align_corners=False)
        return F.grid_sample(places, grid, align_corners=False)

    def _drop(self, places):
        """Put zeros into a square of about half of the maps."""
        n, _, height, width = places.shape
        rows = (torch.arange(height) + 0.5) / height  # (h,)
        columns = (torch.arange(width) + 0.5) / width  # (w,)
        top, left = torch.rand(2, n, 1) * (1 + _DROP) - _DROP
        in_rows = (rows >= top) & (rows < top + _DROP)  # (n, h)
        in_columns = (columns >= left) & (columns < left + _DROP)  # (n, w)
        hit = in_rows[:, None, :, None] & in_columns[:, None, None, :]
        hit &= (torch.rand(n) < 0.5)[:, None, None, None]
        return places.masked_fill(hit.to(places.device), 0.0)
