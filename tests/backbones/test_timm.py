import hashlib
import os
import pickle
import re
import shutil
from dataclasses import replace
from functools import partial

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import save_file

from sktransfer.backbones import _timm, load_backbone
from sktransfer.backbones._timm import (
    TimmProvider,
    _address,
    _count_parameters,
    n_parameters,
    timm_preprocessing,
)
from sktransfer.inputs import ImagePreprocessing


@pytest.fixture
def cached(request):
    """Put weights of timm's test_resnet into the Hugging Face cache."""
    module = timm.create_model("test_resnet")
    repository = timm.models.get_pretrained_cfg("test_resnet").hf_hub_id
    folder = f"models--{repository.replace('/', '--')}"
    root = os.path.join(constants.HF_HUB_CACHE, folder)
    assert os.path.dirname(os.environ["HF_HOME"]) in root
    snapshot = os.path.join(root, "snapshots", "0" * 40)
    os.makedirs(snapshot)
    os.makedirs(os.path.join(root, "refs"))
    with open(os.path.join(root, "refs", "main"), "w") as file:
        file.write("0" * 40)
    save_file(module.state_dict(), os.path.join(snapshot, "model.safetensors"))
    yield module
    shutil.rmtree(root)


def test_weights_come_from_the_cache(cached):
    assert is_available("test_resnet") and is_available("test_resnet.r160_in1k")
    for options in ({}, {"weights": "r160_in1k"}):
        backbone = load_backbone("timm/test_resnet", **options)
        for name, tensor in backbone.module.state_dict().items():
            assert torch.equal(tensor, cached.state_dict()[name]), name
        assert backbone.weights == "r160_in1k"
        assert backbone.provider == "timm"
        assert backbone.license == "apache-2.0"
    assert not backbone.module.training


def is_available(name):
    (row,) = TimmProvider().describe(name)
    return row["available"]


ADDRESS = (
    "https://huggingface.co/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
)


def test_failed_download_names_the_file(download_text):
    assert not is_available("test_resnet")
    text = download_text("timm/test_resnet", ADDRESS, "LocalEntryNotFoundError: .*")
    with pytest.raises(OSError, match=text):
        load_backbone("timm/test_resnet")


@pytest.fixture
def served(weights_server, monkeypatch, tmp_path):
    """Replace Hugging Face by the server, with an empty cache; return served weights.

    These are what it serves.
    """
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    options = {"endpoint": weights_server.address, "cache_dir": tmp_path / "hub"}
    for name in ("hf_hub_download", "hf_hub_url", "try_to_load_from_cache"):
        function, known = getattr(huggingface_hub, name), dict(options)
        if name == "hf_hub_url":
            del known["cache_dir"]
        if name == "try_to_load_from_cache":
            del known["endpoint"]
        monkeypatch.setattr(_timm, name, partial(function, **known))
    module = timm.create_model("test_resnet")
    save_file(module.state_dict(), tmp_path / "model.safetensors")
    weights_server.content = (tmp_path / "model.safetensors").read_bytes()
    return module.state_dict()


def files_in(folder):
    """Return the paths of files of weights, complete or not."""
    found = [p for p in folder.rglob("*") if p.is_file() and ".locks" not in p.parts]
    named = {"refs", "trees", ".no_exist"}
    return [p for p in found if not named & {*p.parts} and p.name != "CACHEDIR.TAG"]


def test_weights_are_downloaded_once(weights_server, served, tmp_path):
    for _ in range(2):
        state = load_backbone("timm/test_resnet").module.state_dict()
        assert all(torch.equal(state[name], served[name]) for name in served)
    fetched = [asked for asked in weights_server.asked if asked.startswith("GET")]
    assert len(fetched) == 1
    sha256 = hashlib.sha256(weights_server.content).hexdigest()
    assert {p.resolve().name for p in files_in(tmp_path / "hub")} == {sha256}


@pytest.mark.parametrize(
    "way", ["404", pytest.param("truncated", marks=pytest.mark.slow)]
)
def test_failed_download_leaves_nothing_and_a_second_one_works(
    weights_server, served, tmp_path, way, download_text
):
    weights_server.way = way
    address = f"{weights_server.address}/timm/test_resnet.r160_in1k/resolve/main/"
    address += "model.safetensors"
    text = download_text("timm/test_resnet", address, "(?s:.*)")
    with pytest.raises(OSError, match=text):
        load_backbone("timm/test_resnet")
    assert files_in(tmp_path / "hub") == []
    weights_server.way = "whole"
    state = load_backbone("timm/test_resnet").module.state_dict()
    assert all(torch.equal(state[name], served[name]) for name in served)


def test_file_of_the_second_name_is_downloaded(served, tmp_path, monkeypatch):
    torch.save(dict(served), tmp_path / "w.bin")
    asked = []

    def download(repository, name):
        asked.append(name)
        if name == "model.safetensors":
            raise EntryNotFoundError(name)
        return str(tmp_path / "w.bin")

    monkeypatch.setattr(_timm, "hf_hub_download", download)
    backbone = load_backbone("timm/test_resnet")
    state = backbone.module.state_dict()
    assert all(torch.equal(state[name], served[name]) for name in served)
    assert asked == ["model.safetensors", "pytorch_model.bin"]
    assert not {"file", "state_dict"} & {*backbone.module.pretrained_cfg}


def test_file_that_is_no_checkpoint_is_named(weights_server, served, tmp_path):
    weights_server.way = "other"
    text = "The checkpoint '(.*model.safetensors)' cannot be read; it may be truncated"
    with pytest.raises(ValueError, match=text) as caught:
        load_backbone("timm/test_resnet")
    path = re.search(text, str(caught.value))[1]
    os.unlink(os.path.realpath(path))
    weights_server.way = "whole"
    state = load_backbone("timm/test_resnet").module.state_dict()
    assert all(torch.equal(state[name], served[name]) for name in served)


class Attack:
    """Would make a file when unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.fixture
def elsewhere(weights_server, monkeypatch, hub):
    """Return a function that replaces the weights of a model by bytes at a URL."""
    config = timm.models.get_pretrained_cfg("test_resnet")

    def serve(content):
        weights_server.content = content
        name = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        url = f"{weights_server.address}/{name}"
        twin = replace(config, url=url, hf_hub_id=None)
        monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda *a, **k: twin)
        builder = "timm.models._builder.resolve_pretrained_cfg"
        monkeypatch.setattr(builder, lambda *a, **k: twin)
        return name

    return serve


def test_weights_that_are_not_on_hugging_face(
    weights_server, elsewhere, hub, tmp_path, monkeypatch
):
    module = timm.create_model("test_resnet")
    torch.save(module.state_dict(), tmp_path / "state")
    name = elsewhere((tmp_path / "state").read_bytes())
    assert not is_available("test_resnet")
    weights_server.way = "404"
    with pytest.raises(OSError, match=f"HTTPError: .*put that file at {hub}/{name}"):
        load_backbone("timm/test_resnet")
    assert os.listdir(hub) == []
    weights_server.way = "whole"
    state = load_backbone("timm/test_resnet").module.state_dict()
    for key, tensor in module.state_dict().items():
        assert torch.equal(state[key], tensor), key
    assert os.listdir(hub) == [name] and is_available("test_resnet")


def test_download_that_would_run_code_is_refused(elsewhere, tmp_path):
    victim = tmp_path / "victim"
    elsewhere(pickle.dumps(Attack(victim), protocol=2))
    with pytest.raises(ValueError, match="is not plain weights, and nothing else"):
        load_backbone("timm/test_resnet")
    assert not victim.exists()


@pytest.mark.parametrize(
    ("config", "address"),
    [
        ({"hf_hub_id": "a/b"}, "https://huggingface.co/a/b/resolve/main/model.safe"),
        (
            {"hf_hub_id": "a/b", "hf_hub_filename": "open.bin"},
            "https://huggingface.co/a/b/resolve/main/open.bin",
        ),
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
    preprocessing = timm_preprocessing(config.to_dict())
    assert isinstance(preprocessing.resize, tuple)


def test_classifiers_of_a_distilled_network():
    backbone = load_backbone("timm/deit_tiny_distilled_patch16_224", weights=None)
    assert backbone.classifier == ("head", "head_dist")
    assert backbone.stage_names[-1] == "blocks.11"


def test_names_are_those_of_weights_or_of_architectures_without_any():
    names = TimmProvider().names()
    assert "resnet26.bt_in1k" in names and "resnet26" not in names
    assert TimmProvider().provides("resnet26")
    assert "botnet50ts_256" in names
    assert not is_available("botnet50ts_256")
    assert huggingface_hub.constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    "name", ["resnet26", "vit_tiny_patch16_224", "tf_efficientnet_lite0"]
)
def test_table_agrees_with_the_network(name):
    assert f"timm/{name}" in _timm._table()
    module = timm.create_model(name)
    counted = sum(p.numel() for p in module.parameters())
    assert n_parameters(name) == _count_parameters(name) == counted


def test_architecture_that_is_not_in_the_table_is_counted(monkeypatch):
    monkeypatch.setattr(_timm, "_table", dict)
    assert n_parameters("test_resnet") == 469_688


def test_table_has_nearly_all_architectures():
    known = _timm._table()
    names = timm.list_models()
    assert sum(f"timm/{name}" in known for name in names) / len(names) > 0.9
