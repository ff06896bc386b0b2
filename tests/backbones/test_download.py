import hashlib
import os

import pytest

from sktransfer.backbones._download import (
    check_weights_file,
    download,
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


def test_download_writes_the_whole_file(weights_server, tmp_path):
    weights_server.content = os.urandom(3_000_000)
    path = tmp_path / "new" / "folder" / "w.bin"
    sha256 = hashlib.sha256(weights_server.content).hexdigest()
    for known in ("", sha256[:8], sha256):
        download(f"{weights_server.address}/w.bin", str(path), known)
        assert path.read_bytes() == weights_server.content
    assert os.listdir(path.parent) == ["w.bin"]


@pytest.mark.parametrize("way", ["truncated", "other", "404"])
def test_failed_download_leaves_the_file_that_was_there(weights_server, tmp_path, way):
    weights_server.content, weights_server.way = b"new" * 10_000, way
    path = tmp_path / "w.bin"
    path.write_bytes(b"old")
    with pytest.raises((OSError, ValueError)):
        download(f"{weights_server.address}/w.bin", str(path), "0" * 8)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["w.bin"]


def test_interrupted_download_leaves_nothing(weights_server, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.copyfileobj", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download(f"{weights_server.address}/w.bin", str(tmp_path / "w.bin"))
    assert os.listdir(tmp_path) == []


def test_file_without_a_hash_in_its_name_is_fetched(weights_server, hub):
    weights_server.content = b"content"
    path = fetch_weights("a/b", f"{weights_server.address}/w.bin")
    assert path == hub_file("http://elsewhere/w.bin") == str(hub / "w.bin")
    assert (hub / "w.bin").read_bytes() == b"content"


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


@pytest.mark.parametrize(
    "url",
    ["", "http://a", "http://a/", "http://a/b/", "http://a/..", "http://a/b\\..\\c"],
)
def test_url_that_names_no_file(url, hub):
    text = "^The path of a URL must end with a file's name. Got '"
    with pytest.raises(ValueError, match=text):
        hub_file(url)
    with pytest.raises(ValueError, match=text):
        fetch_weights("n", url)
    assert os.listdir(hub) == []


def test_name_of_a_file_is_that_of_the_path(hub):
    for url in ("http://a/b/w.pth", "http://a/../w.pth", "http://a/w.pth?x=/../../y#z"):
        assert hub_file(url) == str(hub / "w.pth")


@pytest.mark.parametrize("location", ["/../../x", "/a/..", "/elsewhere/%2e%2e%2fx"])
def test_redirect_has_no_say_in_where_a_file_is_put(weights_server, hub, location):
    weights_server.way, weights_server.content = "redirect", b"content"
    weights_server.location = f"{weights_server.address}/elsewhere{location}"
    path = fetch_weights("n", f"{weights_server.address}/w.bin")
    assert path == str(hub / "w.bin")
    assert [*hub.parents[1].rglob("*")] == [hub.parent, hub, hub / "w.bin"]


@pytest.mark.parametrize("by_redirect", [False, True])
def test_only_web_servers_are_asked(weights_server, hub, tmp_path, by_redirect):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"secret")
    url, name = secret.as_uri(), "secret.bin"
    if by_redirect:
        weights_server.way, weights_server.location = "redirect", url
        url, name = f"{weights_server.address}/w.bin", "w.bin"
    text = f"could not be downloaded from .*put that file at .*{name}"
    with pytest.raises(OSError, match=text):
        fetch_weights("n", url)
    assert os.listdir(hub) == []


def test_url_of_no_web_server(tmp_path):
    text = "^the URL must be one of http or https; got 'ftp://a/b'$"
    with pytest.raises(ValueError, match=text):
        download("ftp://a/b", str(tmp_path / "b"))
    assert os.listdir(tmp_path) == []
