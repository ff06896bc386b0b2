"""Augmentation of activations: random changes of maps, mixup and CutMix."""

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.activations import ActivationLayout
from sktransfer.compute import map_state

ACTIVATION_AUGMENTATIONS = ("flip", "shift", "crop", "drop")
_SHIFT = 0.125  # share of the side, four of 32 pixels as is usual for CIFAR
_CROP = 0.75  # smallest side of a crop, as a share
_DROP = 0.3  # side of a dropped square, and share of dropped entries of vectors


class ActivationAugment(nn.Module):
    """Flip, shift, crop and drop activations at random, in train mode only.

    The flip, shift and crop of each sample are one affine map, which is applied with
    bilinear interpolation. A square is dropped with probability one half. Activations
    that are not spatial have dropout instead, and no other augmentation.

    References
    ----------
    E. Konuk et al. (2024). Learning from Offline Foundation Features with Tensor
    Augmentations. https://arxiv.org/abs/2410.02527
    """

    def __init__(self, kinds: Iterable[str], layout: ActivationLayout):
        super().__init__()
        self.kinds = tuple(kinds)
        self.layout = layout

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Augment activations (n, ...) and return them in the same shape."""
        if not self.training:
            return z
        if not self.layout.is_spatial:
            return map_state(_drop, z) if "drop" in self.kinds else z
        maps = self.layout.to_map(z)  # (n, c, h, w)
        if {"flip", "shift", "crop"} & {*self.kinds}:
            maps = self._move(maps)
        if "drop" in self.kinds:
            maps = _drop_squares(maps)
        return self.layout.from_map(maps, z)

    def _move(self, maps):
        """Resample each map within a random frame, with zeros outside of the map."""
        n = len(maps)
        theta = torch.zeros(n, 2, 3)  # from frame to map coordinates, both in [-1, 1]
        scale, shift, side = torch.ones(n), torch.zeros(n, 2), torch.ones(n)
        if "crop" in self.kinds:
            scale.uniform_(_CROP, 1)
            shift += (1 - scale)[:, None] * torch.empty(n, 2).uniform_(-1, 1)
        if "shift" in self.kinds:
            shift += 2 * torch.empty(n, 2).uniform_(-_SHIFT, _SHIFT)
        if "flip" in self.kinds:
            side = 2.0 * torch.randint(2, (n,)) - 1
        theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side * scale, scale, shift
        theta = theta.to(maps)
        grid = F.affine_grid(theta, list(maps.shape), align_corners=False)
        return F.grid_sample(maps, grid, align_corners=False)


def _drop(z):
    """Apply dropout to activations, but not to masks and ids."""
    return F.dropout(z, _DROP) if z.is_floating_point() else z


def _drop_squares(maps):
    """Set a square to zero in about half of the maps."""
    n, _, height, width = maps.shape
    rows = (torch.arange(height) + 0.5) / height  # (h,)
    columns = (torch.arange(width) + 0.5) / width  # (w,)
    top, left = torch.rand(2, n, 1) * (1 + _DROP) - _DROP
    in_rows = (rows >= top) & (rows < top + _DROP)  # (n, h)
    in_columns = (columns >= left) & (columns < left + _DROP)  # (n, w)
    hit = in_rows[:, None, :, None] & in_columns[:, None, None, :]
    hit &= (torch.rand(n) < 0.5)[:, None, None, None]
    return maps.masked_fill(hit.to(maps.device), 0.0)


class Mix:
    """Mix each sample of a batch with the one before it: mixup [1]_ and CutMix [2]_.

    mixup averages two samples; CutMix replaces a box in the map of one sample by that
    of the other. Shares are drawn from Beta(mixup, mixup) and Beta(cutmix, cutmix), by
    torch's global CPU generator, once per batch. A value of 0 disables a method; if
    both are enabled, each batch uses one of them with probability one half. CutMix
    keeps tokens that are not patches, and averages activations that are not spatial.
    Sequences of different lengths cannot be mixed, which is an error.

    The loss is ``share * loss(y) + (1 - share) * loss(y[partner])``. torchvision's
    MixUp and CutMix take images and class labels alone; these also take tokens,
    vectors, regression targets and sample weights.

    References
    ----------
    .. [1] H. Zhang et al. (2018). mixup: Beyond Empirical Risk Minimization.
       https://arxiv.org/abs/1710.09412
    .. [2] S. Yun et al. (2019). CutMix: Regularization Strategy to Train Strong
       Classifiers with Localizable Features. https://arxiv.org/abs/1905.04899
    """

    def __init__(
        self, layout: ActivationLayout, *, mixup: float = 0.0, cutmix: float = 0.0
    ):
        if layout.kind == "sequence":
            raise ValueError(
                "`mixup` and `cutmix` need activations of one shape. Got a backbone "
                "whose activations are as long as their samples; set both to 0."
            )
        self.layout = layout
        self.mixup = mixup
        self.cutmix = cutmix

    def __call__(self, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the mixed batch (n, ...), the partners (n,) and the shares (n,).

        The share is the weight of the sample itself. The batch, which is not changed,
        must be in random order, as partners are neighbours. A single sample is not
        mixed.
        """
        mixed, share = (z, 1.0) if len(z) < 2 else self._mix(z)
        partner = _before(torch.arange(len(z), device=z.device))
        return mixed, partner, torch.full((len(z),), share, device=z.device)

    def _mix(self, z):
        ways = [(_average, self.mixup), (self._cut, self.cutmix)]
        ways = [(way, alpha) for way, alpha in ways if alpha]
        if not ways:
            return z, 1.0
        way, alpha = ways[int(torch.randint(len(ways), ()))]
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        return way(z, share)

    def _cut(self, z, share):
        if not self.layout.is_spatial:
            return _average(z, share)
        maps = self.layout.to_map(z)  # (n, c, h, w)
        height, width = maps.shape[2:]
        if height * width == 1:
            return _average(z, share)
        side = math.sqrt(1 - share)
        rows, columns = _draw_span(height, side), _draw_span(width, side)
        mixed = maps.clone()
        mixed[:, :, rows, columns] = _before(maps)[:, :, rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        return self.layout.from_map(mixed, z), 1 - area / (height * width)


def _before(z):
    """Replace each sample by its predecessor; the last one precedes the first."""
    # As batches are shuffled, partners are random, and no sample is its own partner.
    return z.roll(1, 0)


def _average(z, share):
    return torch.lerp(_before(z), z, share), share


def _draw_span(size, side):
    """Draw a slice of `size` cells around a random centre.

    Its length is the share `side` of the size, in [0, 1], before it is clipped.
    """
    centre = float(torch.rand(()))
    # Both ends are rounded. Rounding half of the length would make all lengths even,
    # which matters in maps of few cells (7 is usual).
    first, end = (round(size * (centre + half)) for half in (-side / 2, side / 2))
    return slice(max(first, 0), min(end, size))
