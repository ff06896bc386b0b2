import hashlib
import os

import pytest
import torch

from sktransfer.backbones import _download
from sktransfer.backbones._download import (
    check_weights_file,
    explain_download,
    fetch_weights,
    hub_file,
    sha256_in_name,
)


@pytest.mark.parametrize("path", ["/c/b.pth", None])
def test_explain_download_says_what_to_put_where(path, download_text):
    url = "http://a/b.pth"
    text = download_text("timm/x", url, "KeyError: 'why'", path)
    with pytest.raises(OSError, match=text) as error:
        with explain_download("timm/x", url, path):
            raise KeyError("why")
    assert isinstance(error.value.__cause__, KeyError)


def test_explain_download_cuts_long_texts():
    with pytest.raises(OSError, match="could not be downloaded from") as error:
        with explain_download("n", "u", "p"):
            raise ValueError("x" * 5000)
    assert len(str(error.value)) < 1000


def test_explain_download_is_silent_on_success_and_on_interrupts():
    with explain_download("n", "u", "p"):
        pass
    with pytest.raises(KeyboardInterrupt):
        with explain_download("n", "u", "p"):
            raise KeyboardInterrupt


def url_of(server, content, *, hashed=True):
    """Let the server have a file of weights; return its URL."""
    server.content = content
    ending = f"-{hashlib.sha256(content).hexdigest()[:8]}" if hashed else ""
    return f"{server.address}/w{ending}.bin"


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("way", ["whole", "redirect"])
def test_file_is_downloaded_once(weights_server, hub, way, hashed):
    url = url_of(weights_server, os.urandom(3_000_000), hashed=hashed)
    weights_server.way = way
    os.rmdir(hub)
    for _ in range(2):
        path = fetch_weights("a/b", url)
        assert path == hub_file(url) == str(hub / os.path.basename(url))
        assert (hub / path).read_bytes() == weights_server.content
        weights_server.way = "404"
    assert [*hub.parents[1].rglob("*")] == [hub.parent, hub, hub / path]


WAYS = {
    "404": "HTTPError: HTTP Error 404: Not Found",
    "500": "HTTPError: HTTP Error 500: Internal Server Error",
    "truncated": r"(RuntimeError: invalid hash value|IncompleteRead|.*) .*",
    "other": "RuntimeError: invalid hash value .*",
    "silent": "TimeoutError: .*timed out",
}


@pytest.mark.parametrize("way", WAYS)
def test_failed_download_leaves_nothing_and_a_second_one_works(
    weights_server, hub, way, download_text, monkeypatch
):
    url = url_of(weights_server, b"content" * 10_000)
    weights_server.way = way
    text = download_text("a/b", url, f"(?:{WAYS[way]})", hub_file(url))
    with monkeypatch.context() as short:
        short.setattr(_download, "_TIMEOUT", 0.2 if way == "silent" else 20.0)
        with pytest.raises(OSError, match=text):
            fetch_weights("a/b", url)
    assert os.listdir(hub) == []
    weights_server.way = "whole"
    assert fetch_weights("a/b", url) == hub_file(url)


def test_file_that_ends_too_early_is_noticed_without_a_hash(weights_server, hub):
    url = url_of(weights_server, b"content" * 10_000, hashed=False)
    weights_server.way = "truncated"
    with pytest.raises(OSError, match=r"35000 bytes came of 70000|IncompleteRead"):
        fetch_weights("a/b", url)
    assert os.listdir(hub) == []


def test_no_server_says_what_to_do(hub):
    with pytest.raises(OSError, match="URLError: .*refused.*put that file at"):
        fetch_weights("a/b", "http://127.0.0.1:9/w.bin")


def test_folder_that_cannot_be_made_says_what_to_do(
    weights_server, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file" / "torch"))
    text = "NotADirectoryError: .*pass its path, as in weights='path/w.*bin'"
    with pytest.raises(OSError, match=text):
        fetch_weights("a/b", url_of(weights_server, b"content"))
    assert weights_server.asked == []


def test_interrupted_download_leaves_nothing(weights_server, hub, monkeypatch):
    def interrupt(url, path, *args, **options):
        with open(path, "wb") as file:
            file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.hub, "download_url_to_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch_weights("a/b", url_of(weights_server, b"content"))
    assert os.listdir(hub) == []


def test_other_file_in_its_place_says_what_to_do(hub, weights_server):
    url = url_of(weights_server, b"content")
    path = hub / os.path.basename(url)
    path.write_bytes(b"damaged")
    text = (
        f"^The file '{path}' does not hold the weights of 'a/b': its SHA-256 should be "
        "[0-9a-f]{8} and is [0-9a-f]{8}. Delete it to download it again, or pass "
        f"weights='{path}' to take it as it is.$"
    )
    with pytest.raises(ValueError, match=text):
        fetch_weights("a/b", url)
    assert weights_server.asked == []
    path.unlink()
    assert fetch_weights("a/b", url) == str(path)


@pytest.mark.parametrize("location", ["/../../x", "/elsewhere/%2e%2e%2fx"])
def test_redirect_has_no_say_in_where_a_file_is_put(weights_server, hub, location):
    url = url_of(weights_server, b"content")
    weights_server.way = "redirect"
    weights_server.location = f"{weights_server.address}/elsewhere{location}"
    path = fetch_weights("n", url)
    assert [*hub.parents[1].rglob("*")] == [hub.parent, hub, hub / path]


def test_redirect_to_a_file_of_this_machine_is_not_followed(
    weights_server, hub, tmp_path
):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"secret")
    weights_server.way, weights_server.location = "redirect", secret.as_uri()
    with pytest.raises(OSError, match="could not be downloaded from .*put that file"):
        fetch_weights("n", f"{weights_server.address}/w.bin")
    assert os.listdir(hub) == []


def test_hashes_in_names():
    assert sha256_in_name("http://a/resnet18-f37072fd.pth") == "f37072fd"
    assert sha256_in_name("mnasnet0.5_top1_67.823-3ffadce67e.pth") == "3ffadce67e"
    assert sha256_in_name("vit-base.pth") == sha256_in_name("weights.pth") == ""


def test_file_whose_hash_is_not_known_passes(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(b"content")
    check_weights_file("n", str(path), "")
    check_weights_file("n", str(path), hashlib.sha256(b"content").hexdigest()[:8])
    text = f"The file '{path}' does not .*: its SHA-256 should be 00 and is ed. Do it, "
    with pytest.raises(ValueError, match=text):
        check_weights_file("n", str(path), "00", "Do it")


def test_name_of_a_file_is_that_of_the_path(hub):
    for url in ("http://a/b/w.pth", "http://a/../w.pth", "http://a/w.pth?x=/../../y#z"):
        assert hub_file(url) == str(hub / "w.pth")
