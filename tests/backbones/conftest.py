"""Networks that several tests split, and a server of weights."""

import hashlib
import http.server
import os
import threading
from dataclasses import replace

import pytest
import torch

from sktransfer.backbones import load_backbone


def _randomise(module, seed=0):
    """Give every constant tensor noise, so that no layer is an identity or zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and (tensor == tensor.flatten()[0]).all():
                noise = torch.rand(tensor.shape, generator=generator) / 10
                tensor += noise if "running_var" in name else noise - 0.05
    return module


@pytest.fixture(scope="session")
def randomise():
    """Return a function that randomises constant weights of a module."""
    return _randomise


@pytest.fixture(scope="session")
def resnet18():
    """Return ResNet-18 for images of 64 px. Tests must not change it."""
    backbone = load_backbone(
        "torchvision/resnet18", weights=None, image_size=64, random_state=0
    )
    _randomise(backbone.module)
    return backbone


@pytest.fixture(scope="session")
def lite0():
    """Return the shipped backbone with its weights. Tests must not change it."""
    return load_backbone("efficientnet_lite0")


@pytest.fixture
def download_text():
    """Return a function that makes the pattern of the error of a failed download."""

    def pattern(name, url, why, path=None):
        where = f"put that file at {path} or" if path else "fetch .* elsewhere and"
        return (
            f"^The weights of '{name}' could not be downloaded from {url} \\({why}\\). "
            f"Without a network, {where} pass its path, as in weights='path/"
            f"{url.rpartition('/')[2]}'. backbone='efficientnet_lite0' needs no "
            "download: its weights are installed with sktransfer.$"
        )

    return pattern


@pytest.fixture
def images():
    """Return a function that makes model inputs of shape (n, 3, size, size)."""

    def make(n=4, size=64, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(n, 3, size, size, generator=generator)

    return make


class WeightsServer(http.server.ThreadingHTTPServer):
    """Answers every request in the way that is set, on the loopback interface.

    Attributes
    ----------
    content : bytes
        Of the file.
    way : str
        "whole", "truncated", "other", "stalls" (after half of the file), "silent"
        (before any answer), "redirect" (to another path), or a status such as "404".
    etag : str or None
        By default the SHA-256 of the content.
    location : str
        Where "redirect" leads; by default the path below "/elsewhere".
    asked : list of str
        Method and path of each request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.way, self.asked = b"", "whole", []
        self.etag = self.location = None
        self.closing = threading.Event()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        served = self.server
        served.asked.append(f"{self.command} {self.path}")
        way, content = served.way, served.content
        if way == "silent":
            served.closing.wait(30)
            return
        if way.isdigit():
            self.send_error(int(way))
            return
        if way == "redirect" and not self.path.startswith("/elsewhere"):
            self.send_response(302)
            self.send_header("Location", served.location or f"/elsewhere{self.path}")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        etag = served.etag
        if etag is None:
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
        self.send_header("ETag", etag)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()
        if not with_body:
            return
        if way == "other":
            content = bytes(len(content))
        if way in ("truncated", "stalls"):
            content = content[: len(content) // 2]
        self.wfile.write(content)
        if way == "stalls":
            self.wfile.flush()
            served.closing.wait(30)

    def log_message(self, *args):
        pass


@pytest.fixture
def weights_server():
    """Serve files of weights on the loopback interface, with or without faults."""
    with WeightsServer() as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        yield served
        served.closing.set()
        served.shutdown()
        thread.join()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return the folder where torch.hub keeps files, empty for this test."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def known_as(monkeypatch, tmp_path):
    """Return a function that replaces weights of torchvision by a state dict.

    Returns the content of its file, whose name begins as before and carries its hash.
    """

    def make(weights, state, address="http://127.0.0.1:9"):
        path = tmp_path / "state"
        torch.save(state, path)
        content = path.read_bytes()
        name, _, _ = os.path.basename(weights.url).rpartition("-")
        url = f"{address}/{name}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        monkeypatch.setattr(weights, "_value_", replace(weights.value, url=url))
        return content

    return make
