import os
import re

import pytest
import torch
from torchvision import models

from sktransfer.backbones import load_backbone
from sktransfer.backbones._files import hub_file, sha256_in_name
from sktransfer.backbones._torchvision import TorchvisionProvider
from sktransfer.inputs import ImagePreprocessing

RESNET18 = models.ResNet18_Weights.DEFAULT


@pytest.fixture
def keep(hub, known_as):
    """Return a function that writes a state dict to the cache of weights."""

    def put(weights, state):
        content = known_as(weights, state)
        path = hub / os.path.basename(weights.url)
        path.write_bytes(content)
        return str(path)

    return put


def test_weights_come_from_the_cache(hub, keep, resnet18):
    assert hub_file(RESNET18.url) == str(hub / "resnet18-f37072fd.pth")
    state = resnet18.module.state_dict()
    assert keep(RESNET18, state) == hub_file(RESNET18.url)
    for weights in ("default", "IMAGENET1K_V1"):
        backbone = load_backbone("torchvision/resnet18", weights=weights)
        assert backbone.weights == "IMAGENET1K_V1"
        for name, tensor in backbone.module.state_dict().items():
            assert torch.equal(tensor, state[name]), name


def test_auxiliary_classifiers_and_old_names_of_densenet_are_understood():
    tensor = torch.zeros(1)
    state = {
        "AuxLogits.fc.bias": tensor,
        "aux2.fc.bias": tensor,
        "features.denseblock1.denselayer1.norm.1.weight": tensor,
        "features.norm0.weight": tensor,
    }
    expected = ["denseblock1.denselayer1.norm1.weight", "norm0.weight"]
    found = TorchvisionProvider().adapt(state, torch.nn.Module())
    assert [*found] == [f"features.{name}" for name in expected]


@pytest.mark.slow
def test_weights_of_inception_come_without_the_auxiliary_classifier(keep):
    module = models.inception_v3(weights=None, aux_logits=True, init_weights=False)
    path = keep(models.Inception_V3_Weights.DEFAULT, module.state_dict())
    for weights in ("default", path):
        backbone = load_backbone("torchvision/inception_v3", weights=weights)
        assert backbone.module.AuxLogits is None
        assert backbone.module.transform_input
        assert torch.equal(backbone.module.fc.weight, module.fc.weight)


def serve(server, known_as, resnet18, way):
    """Serve the weights in a given way; return the URL and the path in the cache."""
    state = resnet18.module.state_dict()
    server.content = known_as(RESNET18, state, server.address)
    server.way = way
    return RESNET18.url, hub_file(RESNET18.url)


def test_weights_are_downloaded_once(hub, weights_server, known_as, resnet18):
    _, path = serve(weights_server, known_as, resnet18, "404")
    with pytest.raises(OSError, match=f"HTTPError: .*404.*put that file at {path}"):
        load_backbone("torchvision/resnet18", image_size=64)
    assert os.listdir(hub) == []
    weights_server.way, weights_server.asked = "whole", []
    for _ in range(2):
        backbone = load_backbone("torchvision/resnet18", image_size=64)
        assert backbone.fingerprint == resnet18.fingerprint
    assert os.listdir(hub) == [os.path.basename(path)]
    assert len(weights_server.asked) == 2  # the head and the file


def test_cached_file_that_is_damaged_says_what_to_do(keep, resnet18):
    path = keep(RESNET18, resnet18.module.state_dict())
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        file.write(b"damaged")
    text = (
        f"^The file '{path}' does not hold the weights of 'torchvision/resnet18': its "
        "SHA-256 should be [0-9a-f]{8} and is [0-9a-f]{8}. Delete it to download it "
        f"again, or pass weights='{path}' to take it as it is.$"
    )
    with pytest.raises(ValueError, match=text):
        load_backbone("torchvision/resnet18")
    assert load_backbone("torchvision/resnet18", weights=path).weights == path


class Attack:
    """Would make a file when unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_download_that_would_run_code_is_refused(
    hub, weights_server, known_as, tmp_path
):
    victim = tmp_path / "victim"
    content = known_as(RESNET18, {"a": Attack(victim)}, weights_server.address)
    weights_server.content = content
    with pytest.raises(ValueError, match="is not plain weights, and nothing else is"):
        load_backbone("torchvision/resnet18")
    assert not victim.exists()


def test_folder_that_cannot_be_made_says_what_to_do(
    weights_server, known_as, resnet18, tmp_path, monkeypatch
):
    serve(weights_server, known_as, resnet18, "whole")
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file" / "torch"))
    text = "NotADirectoryError: .*pass its path, as in weights='path/resnet18-.*pth'"
    with pytest.raises(OSError, match=text):
        load_backbone("torchvision/resnet18")
    assert weights_server.asked == []


def test_names_of_all_weights_carry_a_hash():
    names = TorchvisionProvider().names()
    urls = [w.url for name in names for w in models.get_model_weights(name)]
    assert len(urls) > 100
    assert all(len(sha256_in_name(url)) >= 8 for url in urls)


@pytest.mark.parametrize(
    ("weights", "near"),
    [
        ("IMAGENET1K_V2", " Did you mean 'IMAGENET1K_V1'?"),
        ("imagenet", " Did you mean 'IMAGENET1K_V1'?"),
        ("best", ""),
    ],
)
def test_unknown_weights(weights, near):
    with pytest.raises(ValueError, match="`weights` of 'torchvision/res") as error:
        load_backbone("torchvision/resnet18", weights=weights)
    assert str(error.value) == (
        "`weights` of 'torchvision/resnet18' must be one of ['IMAGENET1K_V1'], "
        f"'default', None or the path of a file. Got {weights!r}.{near}"
    )


def test_preprocessing_is_that_of_the_weights():
    backbone = load_backbone("torchvision/efficientnet_b0", weights=None)
    assert backbone.preprocessing == ImagePreprocessing(
        size=(224, 224),
        resize=256,
        interpolation="bicubic",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    assert backbone.provider == "torchvision"
    assert backbone.name == "torchvision/efficientnet_b0"


def test_license_of_weights_that_state_one():
    backbone = load_backbone("torchvision/resnet18", weights=None)
    assert backbone.license is None


def test_provider_lists_the_weights_of_classification_models():
    provider = TorchvisionProvider()
    assert {"resnet18", "swin_t", "inception_v3"} <= {*provider.names()}
    assert not provider.provides("fcn_resnet50")
    rows = provider.describe("resnet50")
    assert [row["weights"] for row in rows] == ["IMAGENET1K_V2", "IMAGENET1K_V1"]
    assert rows[0]["parameters"] == 25_557_032 and rows[0]["input_size"] == 224


@pytest.mark.slow
def test_old_names_of_densenet_are_understood(keep):
    module = models.densenet121(weights=None)
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])\.")
    state = {old.sub(r"\1.\2.", k): v for k, v in module.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    path = keep(models.DenseNet121_Weights.DEFAULT, state)
    weights = {k: v for k, v in module.state_dict().items()}
    for chosen in (path, "default"):
        backbone = load_backbone("torchvision/densenet121", weights=chosen)
        for name, tensor in backbone.module.state_dict().items():
            assert torch.equal(tensor, weights[name]), name


@pytest.mark.slow
def test_transformer_is_made_for_the_size_of_its_weights(keep):
    weights = models.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1
    module = models.vit_b_16(weights=None, image_size=384)
    keep(weights, module.state_dict())
    backbone = load_backbone("torchvision/vit_b_16", weights=weights.name)
    assert backbone.preprocessing.size == (384, 384)
    expected = module.encoder.pos_embedding
    assert torch.equal(backbone.module.encoder.pos_embedding, expected)
