"""Small networks with seeded weights, whose stages are those of real ones."""

import torch
from torch import nn


class SmallNetwork(nn.Sequential):
    """Network for images with the stages 0 to 8, the same each time.

    A class, not a function: estimators that are given it say so in every process alike.
    """

    pretrained_cfg = {
        "input_size": (3, 32, 32),
        "crop_mode": "squash",
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.3, 0.3, 0.3),
    }
    widths = (3, 8, 8, 16, 16, 16, 24, 24, 32, 32)
    strides = (2, 1, 2, 1, 1, 2, 1, 1, 1)

    def __init__(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            super().__init__(*map(block, self.widths, self.widths[1:], self.strides))
            coarse = 3 * torch.randn(64, 3, 4, 4)
        # Statistics as after a training: what leaves the stages is of the order of 1.
        with torch.no_grad():
            self(nn.functional.interpolate(coarse, size=32, mode="bilinear"))
        for stage in self:
            stage[1].momentum = 0.1
        self.eval()


def block(n_in, n_out, stride):
    convolution = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out, momentum=1.0), nn.ReLU())
