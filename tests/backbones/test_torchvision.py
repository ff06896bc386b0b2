import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from torchvision import models

from sktransfer.backbones import load_backbone
from sktransfer.backbones._torchvision import (
    cached_file,
    list_torchvision,
    load_torchvision,
    weights_of,
)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return the folder where torch.hub keeps its files; it is empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def _make(function):
    return function()


def test_all_classification_models_are_listed():
    names = list_torchvision()
    assert {"resnet50", "vgg16", "inception_v3", "efficientnet_b0", "vit_b_16"} <= {
        *names
    }
    assert all(weights_of(name) for name in names)


def test_weights_in_the_cache_are_loaded_with_their_preprocessing(hub):
    weights = models.ResNet18_Weights.IMAGENET1K_V1
    torch.manual_seed(0)
    state = models.resnet18().state_dict()
    torch.save(state, cached_file(weights))
    assert os.path.dirname(cached_file(weights)) == str(hub)
    backbone = load_backbone("torchvision/resnet18")
    for name, tensor in backbone.module.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert backbone.weights == "IMAGENET1K_V1"
    assert backbone.preprocessing.size == (224, 224)
    assert backbone.preprocessing.resize == 256
    assert backbone.preprocessing.interpolation == "bilinear"
    assert backbone.preprocessing.mean == (0.485, 0.456, 0.406)


def test_inception_leaves_out_what_serves_training_alone(hub):
    weights = models.Inception_V3_Weights.IMAGENET1K_V1
    full = models.inception_v3(weights=None, aux_logits=True, init_weights=False)
    torch.save(full.state_dict(), cached_file(weights))
    backbone = load_backbone("torchvision/inception_v3")
    assert backbone.module.AuxLogits is None
    assert backbone.module.transform_input
    assert backbone.preprocessing.size == (299, 299)


def test_unknown_weights_get_near_matches():
    with pytest.raises(ValueError, match="`weights` of 'torchvision/resnet50' must be"):
        load_backbone("torchvision/resnet50", weights="IMAGENET1K_V3")
    with pytest.raises(ValueError, match="Did you mean 'IMAGENET1K_V"):
        load_backbone("torchvision/resnet50", weights="IMAGENET1K_V3")


class _Failing(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(self.server.code)

    def log_message(self, *args):
        pass


@pytest.fixture
def failing_server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Failing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("code", [404, 500])
def test_a_failed_download_says_what_to_put_where(
    hub, failing_server, monkeypatch, code
):
    failing_server.code = code
    address = f"http://127.0.0.1:{failing_server.server_port}/resnet18-f37072fd.pth"
    entry = models.ResNet18_Weights.IMAGENET1K_V1.value
    monkeypatch.setitem(entry.__dict__, "url", address)
    with pytest.raises(OSError, match=f"HTTP Error {code}") as caught:
        load_torchvision("resnet18", weights="default", make=_make)
    text = str(caught.value)
    assert str(hub / "resnet18-f37072fd.pth") in text
    assert "backbone='efficientnet_lite0' needs no download" in text
    assert os.listdir(hub) == []
