"""Mixing samples: mixup and CutMix, on model inputs or activations."""

import math

import torch

__all__ = ["Mix"]


class Mix:
    """Mix each sample of a batch with the one before it.

    mixup averages the two; CutMix puts a box of the one into the map of the other.
    With both, each batch takes one of the two with probability one half. All pairs of
    a batch share one draw, which comes from torch's global generator of the CPU.

    The loss is ``share * loss(y) + (1 - share) * loss(y[partner])``.

    Parameters
    ----------
    layout : Layout
        Of the activations. Tokens that are no patch stay the sample's own in CutMix.
        Activations without places, or with one, are averaged instead.
    mixup : float, default=0.0
        The weight of a sample's own part is drawn from a Beta(mixup, mixup); 0 is off.
    cutmix : float, default=0.0
        Likewise for the share of the area, before boxes are cut off at the edges.

    References
    ----------
    H. Zhang et al. (2018). mixup: Beyond Empirical Risk Minimization.
    https://arxiv.org/abs/1710.09412

    S. Yun et al. (2019). CutMix: Regularization Strategy to Train Strong Classifiers
    with Localizable Features. https://arxiv.org/abs/1905.04899
    """

    def __init__(self, layout, *, mixup=0.0, cutmix=0.0):
        self.layout = layout
        self.mixup = mixup
        self.cutmix = cutmix

    def __call__(self, z):
        """Mix.

        Parameters
        ----------
        z : torch.Tensor of shape (n, ...)
            In random order: who is mixed with whom goes by position. Not changed. A
            batch of one sample is returned as it is.

        Returns
        -------
        mixed : torch.Tensor of the shape of z
        partner : torch.Tensor of shape (n,), int64
            Index of the sample that each is mixed with.
        share : torch.Tensor of shape (n,), float32
            Weight of each sample's own target.
        """
        mixed, share = (z, 1.0) if len(z) < 2 else self._mix(z)
        partner = _before(torch.arange(len(z), device=z.device))
        return mixed, partner, torch.full((len(z),), share, device=z.device)

    def _mix(self, z):
        ways = [(self._average, self.mixup), (self._cut, self.cutmix)]
        ways = [(way, alpha) for way, alpha in ways if alpha]
        if not ways:
            return z, 1.0
        way, alpha = ways[int(torch.randint(len(ways), ()))]
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        return way(z, share)

    def _average(self, z, share):
        return torch.lerp(_before(z), z, share), share

    def _cut(self, z, share):
        if not self.layout.is_spatial:
            return self._average(z, share)
        places = self.layout.to_map(z)  # (n, c, h, w)
        height, width = places.shape[2:]
        if height * width == 1:
            return self._average(z, share)
        side = math.sqrt(1 - share)
        rows, columns = _draw_span(height, side), _draw_span(width, side)
        mixed = places.clone()
        mixed[:, :, rows, columns] = _before(places)[:, :, rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        return self.layout.from_map(mixed, z), 1 - area / (height * width)


def _before(z):
    """Put each sample's predecessor in its place; the last is that of the first."""
    # Batches are shuffled, so this pairs at random, and no sample with itself.
    return z.roll(1, 0)


def _draw_span(size, side):
    """Draw a span of places around a random centre, cut off at the ends.

    Parameters
    ----------
    size : int
        Number of places.
    side : float
        Length over size, in [0, 1].

    Returns
    -------
    slice
    """
    centre = float(torch.rand(()))
    # The ends are rounded, not the length: maps have few places (7 is usual), and a
    # rounded half of the length would leave only even ones.
    first, end = (round(size * (centre + half)) for half in (-side / 2, side / 2))
    return slice(max(first, 0), min(end, size))
