import os
import shutil
import time

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from sktransfer.backbones import load_backbone
from sktransfer.backbones._timm import _address, is_cached, list_timm
from sktransfer.inputs import ImagePreprocessing


@pytest.fixture
def cached(request):
    """Put weights of timm's test_resnet into the Hugging Face cache."""
    module = timm.create_model("test_resnet")
    repository = timm.models.get_pretrained_cfg("test_resnet").hf_hub_id
    folder = f"models--{repository.replace('/', '--')}"
    root = os.path.join(constants.HF_HUB_CACHE, folder)
    assert request.config.sktransfer_caches in root
    snapshot = os.path.join(root, "snapshots", "0" * 40)
    os.makedirs(snapshot)
    os.makedirs(os.path.join(root, "refs"))
    with open(os.path.join(root, "refs", "main"), "w") as file:
        file.write("0" * 40)
    save_file(module.state_dict(), os.path.join(snapshot, "model.safetensors"))
    yield module
    shutil.rmtree(root)


def test_weights_come_from_the_cache(cached):
    assert is_cached("test_resnet") and is_cached("test_resnet.r160_in1k")
    for options in ({}, {"weights": "r160_in1k"}):
        backbone = load_backbone("timm/test_resnet", **options)
        for name, tensor in backbone.module.state_dict().items():
            assert torch.equal(tensor, cached.state_dict()[name]), name
        assert backbone.weights == "r160_in1k"
        assert backbone.provider == "timm"
        assert backbone.licence == "apache-2.0"
    assert not backbone.module.training


ADDRESS = (
    "https://huggingface.co/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
)


def test_failed_download_names_the_file(download_text):
    assert not is_cached("test_resnet")
    text = download_text("timm/test_resnet", ADDRESS, "OfflineModeIsEnabled: .*")
    with pytest.raises(OSError, match=text):
        load_backbone("timm/test_resnet")


def test_failed_download_asks_no_second_time(monkeypatch, download_text):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    server = "http://127.0.0.1:9/"
    template = f"{server}{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    address = f"{server}timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
    text = download_text("timm/test_resnet", address, "ConnectError: .*refused")
    start = time.monotonic()
    with pytest.raises(OSError, match=text):
        load_backbone("timm/test_resnet")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("config", "address"),
    [
        ({"hf_hub_id": "a/b"}, "https://huggingface.co/a/b/resolve/main/model.safe"),
        (
            {"hf_hub_id": "a/b", "hf_hub_filename": "open.bin"},
            "https://huggingface.co/a/b/resolve/main/open.bin",
        ),
        ({"url": "http://c/d.pth"}, "http://c/d.pth"),
    ],
)
def test_address_of_weights(config, address):
    assert _address(timm.models.PretrainedCfg(**config)).startswith(address)


@pytest.mark.parametrize("weights", ["in21k", "bt_in1k.x"])
def test_unknown_weights(weights):
    text = (
        f"'timm/resnet26.{weights}' has no such weights. `weights` must be one of "
        "\\['bt_in1k'\\], None for random ones, or a file's path."
    )
    with pytest.raises(ValueError, match=text):
        load_backbone("timm/resnet26", weights=weights)
    with pytest.raises(ValueError, match=text):
        load_backbone(f"timm/resnet26.{weights}")
    with pytest.raises(ValueError, match=text):
        load_backbone(f"timm/resnet26.{weights}", weights=None)


def test_architecture_without_weights():
    text = "'timm/botnet50ts_256' has no such weights. `weights` must be one of \\[\\]"
    with pytest.raises(ValueError, match=text):
        load_backbone("timm/botnet50ts_256")


def test_random_weights_have_the_preprocessing_of_the_default_ones():
    backbone = load_backbone("timm/convnext_atto", weights=None)
    assert backbone.name == "timm/convnext_atto"
    assert backbone.weights is None
    assert backbone.preprocessing == ImagePreprocessing(
        size=(224, 224),
        resize=256,
        interpolation="bicubic",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    tagged = load_backbone("timm/resnet26.bt_in1k", weights=None)
    assert tagged.name == "timm/resnet26.bt_in1k"
    assert tagged.weights is None


def test_preprocessing_that_squashes():
    names = timm.list_pretrained("vit_*clip*") + timm.list_pretrained("*aimv2*")
    squashed = [
        name
        for name in names
        if timm.models.get_pretrained_cfg(name).crop_mode == "squash"
    ]
    config = timm.models.get_pretrained_cfg(squashed[0])
    from sktransfer.backbones._timm import _preprocessing

    preprocessing = _preprocessing(config.to_dict())
    assert isinstance(preprocessing.resize, tuple)


def test_classifiers_of_a_distilled_network():
    backbone = load_backbone("timm/deit_tiny_distilled_patch16_224", weights=None)
    assert backbone.classifier == ["head", "head_dist"]
    assert backbone.stage_names[-1] == "blocks.11"


def test_list_timm():
    architectures, pretrained = list_timm()
    assert "resnet26" in architectures
    assert "resnet26.bt_in1k" in pretrained
    assert not is_cached("botnet50ts_256")
    assert huggingface_hub.constants.HF_HUB_OFFLINE
