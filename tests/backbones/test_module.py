import pytest
import timm
import torch
from torch import nn

from sktransfer.backbones import is_image_network, load_backbone
from sktransfer.backbones._module import IMAGENET
from sktransfer.inputs import ImagePreprocessing


def _vectors():
    return nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU())


def test_an_image_network_has_a_convolution():
    assert is_image_network(nn.Sequential(nn.Conv2d(3, 4, 3)))
    assert is_image_network(nn.LazyConv2d(4, 3))
    assert not is_image_network(_vectors())


def test_lazy_layers_take_their_width_and_the_seed():
    first, second = (
        load_backbone(_vectors, n_features=5, random_state=0) for _ in range(2)
    )
    assert first.preprocessing.input_shape == (5,)
    assert first.module[0].weight.shape == (6, 5)
    assert torch.equal(first.module[0].weight, second.module[0].weight)


def test_the_global_generator_is_not_touched():
    state = torch.random.get_rng_state()
    load_backbone(_vectors, n_features=5)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_module_is_copied():
    module = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    backbone = load_backbone(module)
    assert backbone.module is not module
    assert torch.equal(backbone.module[0].weight, module[0].weight)


def test_the_width_is_read_from_the_first_layer_or_asked_for():
    assert load_backbone(nn.Sequential(nn.Linear(7, 2))).preprocessing.n_features == 7
    with pytest.raises(ValueError, match="does not say how long its vectors are"):
        load_backbone(nn.Sequential(nn.ReLU()))


def test_a_network_of_timm_brings_its_preprocessing_and_classifier():
    backbone = load_backbone(timm.create_model("tf_efficientnet_lite0"))
    assert backbone.preprocessing.mean == (0.5, 0.5, 0.5)
    assert backbone.classifier == ["classifier"]


def test_an_image_network_that_says_nothing_is_warned_about():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU())
    with pytest.warns(UserWarning, match="does not say which preprocessing"):
        backbone = load_backbone(network)
    assert backbone.preprocessing == IMAGENET


def test_a_given_preprocessing_is_used_without_a_warning():
    preprocessing = ImagePreprocessing(
        size=(16, 16), resize=16, interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1)
    )
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU())
    backbone = load_backbone(network, preprocessing=preprocessing)
    assert backbone.preprocessing == preprocessing


def test_a_callable_must_return_a_module():
    with pytest.raises(TypeError, match="must return an nn.Module.* returned int"):
        load_backbone(lambda: 3)
