import http.server
import os
import re
import threading
from dataclasses import replace

import pytest
import torch
from torchvision import models

from sktransfer.backbones import load_backbone
from sktransfer.backbones._torchvision import (
    cached_file,
    list_torchvision,
    weights_of,
)
from sktransfer.inputs import ImagePreprocessing

RESNET18 = models.ResNet18_Weights.DEFAULT


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return the folder where torch.hub keeps files, empty for this test."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def server():
    """Return a function that makes the URL of a file that is answered by a status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            status = int(self.path.split("/")[1])
            self.send_response(status)
            self.end_headers()
            if status == 200:
                self.wfile.write(b"no weights")

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        host, port = served.server_address
        yield lambda status: f"http://{host}:{port}/{status}/resnet18-f37072fd.pth"
        served.shutdown()
        thread.join()


def test_weights_come_from_the_cache(hub, resnet18):
    path = hub / "resnet18-f37072fd.pth"
    assert cached_file(RESNET18) == str(path)
    state = resnet18.module.state_dict()
    torch.save(state, path)
    for weights in ("default", "IMAGENET1K_V1"):
        backbone = load_backbone("torchvision/resnet18", weights=weights)
        assert backbone.weights == "IMAGENET1K_V1"
        for name, tensor in backbone.module.state_dict().items():
            assert torch.equal(tensor, state[name]), name


def test_weights_of_inception_come_without_the_auxiliary_classifier(hub):
    module = models.inception_v3(weights=None, aux_logits=True, init_weights=False)
    path = cached_file(models.Inception_V3_Weights.DEFAULT)
    assert os.path.dirname(path) == str(hub)
    torch.save(module.state_dict(), path)
    for weights in ("default", path):
        backbone = load_backbone("torchvision/inception_v3", weights=weights)
        assert backbone.module.AuxLogits is None
        assert backbone.module.transform_input
        assert torch.equal(backbone.module.fc.weight, module.fc.weight)


def patched(monkeypatch, url):
    monkeypatch.setattr(RESNET18, "_value_", replace(RESNET18.value, url=url))


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (404, "HTTPError: HTTP Error 404: Not Found"),
        (500, "HTTPError: HTTP Error 500: Internal Server Error"),
        (200, "RuntimeError: invalid hash value .*"),
    ],
)
def test_failed_download_says_what_to_do(
    hub, server, monkeypatch, status, why, download_text
):
    url = server(status)
    patched(monkeypatch, url)
    path = f"{hub}/resnet18-f37072fd.pth"
    text = download_text("torchvision/resnet18", url, why, path)
    with pytest.raises(OSError, match=text):
        load_backbone("torchvision/resnet18")
    assert not os.listdir(hub)


def test_no_server_says_what_to_do(hub, monkeypatch):
    patched(monkeypatch, "http://127.0.0.1:9/resnet18-f37072fd.pth")
    with pytest.raises(OSError, match="URLError: .*refused.*put that file at"):
        load_backbone("torchvision/resnet18")


@pytest.mark.parametrize(
    ("weights", "near"),
    [
        ("IMAGENET1K_V2", " Did you mean 'IMAGENET1K_V1'?"),
        ("imagenet", " Did you mean 'IMAGENET1K_V1'?"),
        (7, ""),
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


def test_licence_of_weights_that_state_one():
    backbone = load_backbone("torchvision/resnet18", weights=None)
    assert backbone.licence is None


def test_list_torchvision():
    names = list_torchvision()
    assert {"resnet18", "swin_t", "inception_v3"} <= set(names)
    assert "fcn_resnet50" not in names
    assert [w.name for w in weights_of("resnet50")] == [
        "IMAGENET1K_V1",
        "IMAGENET1K_V2",
    ]


def test_old_names_of_densenet_are_understood(hub, tmp_path):
    module = models.densenet121(weights=None)
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])\.")
    state = {old.sub(r"\1.\2.", k): v for k, v in module.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    path = cached_file(models.DenseNet121_Weights.DEFAULT)
    torch.save(state, path)
    weights = {k: v for k, v in module.state_dict().items()}
    for chosen in (path, "default"):
        backbone = load_backbone("torchvision/densenet121", weights=chosen)
        for name, tensor in backbone.module.state_dict().items():
            assert torch.equal(tensor, weights[name]), name


def test_transformer_is_made_for_the_size_of_its_weights(hub):
    weights = models.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1
    module = models.vit_b_16(weights=None, image_size=384)
    torch.save(module.state_dict(), cached_file(weights))
    backbone = load_backbone("torchvision/vit_b_16", weights=weights.name)
    assert backbone.preprocessing.size == (384, 384)
    expected = module.encoder.pos_embedding
    assert torch.equal(backbone.module.encoder.pos_embedding, expected)
