from types import MethodType

import pytest
import timm
import torch
from torch import nn
from torchvision.models import resnet18

from sktransfer.backbones._outline import outline


@pytest.mark.parametrize(
    "make", [lambda: timm.create_model("tf_efficientnet_lite0"), resnet18]
)
def test_outline_is_that_of_the_architecture(make):
    first, second = make(), make()
    assert outline(first) == outline(second) is not None
    list(second.children())[-1].bias = None
    assert outline(first) != outline(second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, padding_mode="circular")),
        (nn.Dropout(0.1), nn.Dropout(0.2)),
        (nn.Linear(2, 2), nn.Linear(2, 2).double()),
        (nn.Sequential(nn.ReLU(), nn.ReLU()), nn.Sequential(nn.ReLU(), nn.GELU())),
    ],
)
def test_settings_change_the_outline(one, other):
    assert outline(one) != outline(other)


class Own(nn.Linear):
    pass


def hooked():
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(lambda module, args, output: output)
    return layer


def replaced():
    layer = nn.Linear(2, 2)
    layer.forward = MethodType(lambda self, x: x, layer)
    return layer


def holding(value):
    layer = nn.Linear(2, 2)
    layer.held = value
    return layer


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(Own(2, 2)),
        hooked,
        replaced,
        lambda: holding([nn.ReLU()]),
        lambda: holding(lambda x: x),
        lambda: holding(torch.Generator()),
        lambda: holding(object()),
    ],
    ids=["class", "hook", "method", "layer", "function", "generator", "object"],
)
def test_code_that_is_no_library_s_has_no_outline(make):
    assert outline(make()) is None
