import logging

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.backbones import load_backbone
from sktransfer.backbones._load import resolve_name


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("efficientnet_lite0", ("shipped", "efficientnet_lite0")),
        ("resnet50", ("torchvision", "resnet50")),
        ("convnext_nano", ("timm", "convnext_nano")),
        ("convnext_nano.in12k", ("timm", "convnext_nano.in12k")),
        ("timm/resnet50", ("timm", "resnet50")),
        ("torchvision/resnet50", ("torchvision", "resnet50")),
    ],
)
def test_a_name_goes_to_the_first_that_provides_it(spec, expected):
    assert resolve_name(spec) == expected


def test_the_log_says_which_was_taken(caplog):
    with caplog.at_level(logging.INFO, "sktransfer"):
        resolve_name("resnet50")
    assert "'resnet50' is taken from torchvision" in caplog.text


@pytest.mark.parametrize("spec", ["resnet55", "torchvision/resnet55", "hub/resnet55"])
def test_an_unknown_name_gets_near_matches(spec):
    with pytest.raises(ValueError, match=f"no backbone '{spec}'.*Did you mean 'resnet"):
        load_backbone(spec)


def test_something_else_is_refused():
    with pytest.raises(TypeError, match="`backbone` must be a name, an nn.Module"):
        load_backbone(3)


def test_the_image_size_replaces_the_weights_own():
    backbone = load_backbone("torchvision/resnet18", weights=None, image_size=64)
    assert backbone.preprocessing.input_shape == (3, 64, 64)
    assert backbone.activation_shape("layer4") == (512, 2, 2)


def test_a_checkpoint_with_other_classes_is_loaded(tmp_path):
    from torchvision.models import resnet18

    torch.manual_seed(1)
    trained = resnet18(num_classes=7)
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    backbone = load_backbone("torchvision/resnet18", weights=tmp_path / "w.pth")
    assert torch.equal(backbone.module.conv1.weight, trained.conv1.weight)
    assert backbone.weights == str(tmp_path / "w.pth")


def test_weights_of_a_module_are_its_own_or_a_file(tmp_path):
    module = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    torch.manual_seed(1)
    other = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
    torch.save(other.state_dict(), tmp_path / "w.pth")
    loaded = load_backbone(module, weights=tmp_path / "w.pth")
    assert torch.equal(loaded.module[0].weight, other[0].weight)
    with pytest.raises(ValueError, match="`weights` of a module or a callable must be"):
        load_backbone(module, weights="IMAGENET1K_V1")


def test_a_backbone_is_returned_as_it_is():
    backbone = load_backbone(nn.Sequential(nn.Linear(3, 2)))
    assert load_backbone(backbone) is backbone


def test_loading_touches_no_global_generator():
    torch_state = torch.random.get_rng_state()
    np.random.seed(0)  # noqa: NPY002 - the global generator is what is looked at
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    load_backbone("torchvision/resnet18", weights=None)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.random.random() == expected  # noqa: NPY002
