import pytest
import torch
from torch import nn

from sktransfer import Pooling
from sktransfer.backbones import load_backbone
from sktransfer.inputs import ImagePreprocessing
from sktransfer.model import make_pool


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    maps = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))
    network = nn.Sequential(maps, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    preprocessing = ImagePreprocessing(size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))
    return load_backbone(network, preprocessing=preprocessing)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        (Pooling(), lambda z: z.mean((2, 3))),
        (Pooling("max"), lambda z: z.amax((2, 3))),
        (Pooling("flatten"), lambda z: z.flatten(1)),
    ],
    ids=["auto", "max", "flatten"],
)
def test_pool_is_that_of_the_parameter(backbone, pooling, expected):
    pool = make_pool(backbone, "0", pooling)
    z = torch.rand(2, *backbone.activation_shape("0"))
    torch.testing.assert_close(pool(z), expected(z))


def test_grid_keeps_cells(backbone):
    pool = make_pool(backbone, "0", Pooling("avg", grid=2))
    assert pool.n_features(backbone.activation_shape("0")) == 5 * 4


def test_pooling_that_does_not_fit_names_the_stage(backbone):
    with pytest.raises(ValueError, match="'0'"):
        make_pool(backbone, "0", Pooling("cls"))
