import numpy as np
import pytest
import timm
import torch
from sklearn.datasets import load_sample_images

from sktransfer.backbones import load_backbone
from sktransfer.backbones._shipped import weights_path
from sktransfer.inputs import ImagePreprocessing, as_samples

# ImageNet's numbers of these classes.
DAISY, PALACE = 985, 698


def _inputs(backbone):
    images = as_samples(load_sample_images().images, backbone.preprocessing)
    prepared = [backbone.preprocessing.prepare(images[i]) for i in range(2)]
    return backbone.preprocessing.to_input(torch.from_numpy(np.stack(prepared)))


def test_every_tensor_of_the_file_is_in_the_network_in_order(lite0):
    file = torch.load(weights_path("efficientnet_lite0"), weights_only=True)
    state = lite0.module.state_dict()
    assert len(file) == len(state) == 296
    for a, b in zip(file.values(), state.values(), strict=True):
        assert a.shape == b.shape
        assert torch.equal(a, b)


def test_the_architecture_is_that_of_tensorflow(lite0):
    expected = timm.create_model("tf_efficientnet_lite0")
    assert repr(lite0.module) == repr(expected)
    assert "Conv2dSame" in repr(lite0.module)
    assert lite0.module.bn1.eps == 1e-3


def test_the_preprocessing_is_that_of_the_weights(lite0):
    assert lite0.preprocessing == ImagePreprocessing(
        size=(224, 224),
        resize=256,
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


def test_a_palace_and_a_flower_are_recognised(lite0):
    with torch.no_grad():
        top = lite0.module(_inputs(lite0)).argmax(1)
    assert top.tolist() == [PALACE, DAISY]


def test_random_weights_go_by_their_seed():
    state = torch.random.get_rng_state()
    first, again, other = (
        load_backbone("efficientnet_lite0", weights=None, random_state=seed)
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    weight = first.module.conv_stem.weight
    assert torch.equal(weight, again.module.conv_stem.weight)
    assert not torch.equal(weight, other.module.conv_stem.weight)
    assert (first.weights, first.licence) == (None, "apache-2.0")


def test_other_weights_are_refused():
    with pytest.raises(ValueError, match="must be 'default', None or the path.*'V2'"):
        load_backbone("efficientnet_lite0", weights="V2")


@pytest.mark.slow
def test_logits_equal_those_of_the_reference_implementation(lite0):
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights_path("efficientnet_lite0")
    ).eval()
    x = _inputs(lite0)
    with torch.no_grad():
        assert torch.equal(lite0.module(x), reference(x))
