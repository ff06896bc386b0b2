"""Networks that cannot be cut are called as they are."""

import pytest
import torch
from torch import nn

from sktransfer.backbones import load_backbone
from sktransfer.backbones._wrappers import Unpacked, Whole

Z = torch.zeros(1, 2)


class Returning(nn.Module):
    def forward(self, x):
        return {"out": [Z], "loss": None}


def test_the_one_tensor_is_unpacked():
    assert Unpacked(Returning())(Z) is Z
    assert Whole(nn.Identity())(Z) is Z


class Calling(nn.Module):
    """A network whose class replaces ``__call__``."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 4)

    def __call__(self, x):
        return 2 * super().__call__(x)

    def forward(self, x):
        return self.a(x)


def test_network_whose_call_is_replaced_is_called_once():
    network = Calling()
    with pytest.warns(UserWarning, match="Calling is a single stage"):
        prefix, suffix = (backbone := load_backbone(network)).split(1)
    x = torch.randn(5, 3)
    torch.testing.assert_close(suffix(prefix(x)), 2 * network.a(x))
    assert isinstance(backbone.network, Calling)
