import pytest
import torch
from torch import nn

from sktransfer.backbones._layout import _place_of, _Unpacked, _Whole

Z = torch.zeros(1, 2)


class Returning(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return self.value


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([Z, Z], "[-1]"),
        ((Z, None), "[-2]"),
        ({"out": Z, "aux": Z}, "['out']"),
        ({"aux": None, "maps": (Z, Z)}, "['maps'][-1]"),
        ([], "[-1]"),
        ({}, "['name']"),
        (Z, ""),
        (3, ".name"),
    ],
)
def test_place_of_a_tensor(value, place):
    assert _place_of(value) == place


def test_the_one_tensor_is_unpacked():
    network = _Unpacked(Returning({"out": [Z], "loss": None}))
    assert network(Z) is Z
    assert _Whole(nn.Identity())(Z) is Z
