import hashlib
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sktransfer.backbones import _files
from sktransfer.backbones._files import (
    check_weights_file,
    explain_download,
    fetch_weights,
    hub_file,
    read_state_dict,
    sha256_in_name,
    title_of,
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
        short.setattr(_files, "_TIMEOUT", 0.2 if way == "silent" else 20.0)
        with pytest.raises(OSError, match=text):
            fetch_weights("a/b", url)
    assert os.listdir(hub) == []
    weights_server.way = "whole"
    assert fetch_weights("a/b", url) == hub_file(url)


def test_file_that_ends_too_early_is_noticed_without_a_hash(weights_server, hub):
    url = url_of(weights_server, b"content" * 10_000, hashed=False)
    weights_server.way = "truncated"
    with pytest.raises(OSError, match=r"got 35000 of 70000 bytes|IncompleteRead"):
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
def test_redirect_does_not_change_the_path_of_a_file(weights_server, hub, location):
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


@pytest.fixture
def state():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def save(state, path):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_file_and_mapping_are_the_same(state, tmp_path, ending):
    path = save(state, tmp_path / f"weights.{ending}")
    for weights in (path, str(path), state):
        found = read_state_dict(weights)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[name], state[name]) for name in state)
    assert title_of(path) == f"The checkpoint {str(path)!r}"
    assert title_of(state) == "The state dict in `weights`"


def test_names_in_mappings_are_joined(state, tmp_path):
    optimizer = {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 1}]}
    content = {"net": {"ema": state}, "epoch": 3, "optimizer": optimizer}
    for weights in (content, save(content, tmp_path / "weights.pth")):
        assert [*read_state_dict(weights)] == ["net.ema.a.weight", "net.ema.a.bias"]
    with pytest.raises(ValueError, match="in `weights` holds no weights by name."):
        read_state_dict({"optimizer": optimizer, "epoch": 3})


def test_missing_file(tmp_path):
    path = str(tmp_path / "nothing.pth")
    with pytest.raises(FileNotFoundError, match="There is no checkpoint file '.*noth"):
        read_state_dict(path)


class Attack:
    """Would make a file when unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickle_with_code_is_refused_and_not_run(tmp_path):
    path, victim = tmp_path / "weights.pth", tmp_path / "victim"
    torch.save({"a": Attack(victim)}, path)
    text = (
        "is not plain weights, and nothing else is loaded since a pickle can run code. "
        "Save it again with `torch.save\\(model.state_dict\\(\\), path\\)` or as safe"
    )
    with pytest.raises(ValueError, match=text):
        read_state_dict(path)
    assert not victim.exists()
    path.write_bytes(pickle.dumps(Attack(victim), protocol=2))
    with pytest.raises(ValueError, match="is not plain weights"):
        read_state_dict(path)
    assert not victim.exists()


def test_whole_module_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(nn.Linear(2, 3), path)
    with pytest.raises(ValueError, match="is not plain weights"):
        read_state_dict(path)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_truncated_file(state, tmp_path, ending):
    path = save(state, tmp_path / f"weights.{ending}")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="cannot be read; it may be truncated or of"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [{}, [torch.zeros(2)], torch.zeros(2)])
def test_file_without_names(tmp_path, content):
    path = save(content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="weights.pth' holds no weights by name."):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "named"),
    [({"a": 1, "b": torch.zeros(2)}, "'a'"), ({0: torch.zeros(2)}, "0")],
)
def test_file_with_something_else(tmp_path, content, named):
    path = save(content, tmp_path / "weights.pth")
    text = f"holds \\[{named}\\], which are not tensors by name."
    with pytest.raises(ValueError, match=text):
        read_state_dict(path)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    "special",
    [
        lambda: torch.ones(2, device="meta"),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    ],
    ids=["meta", "sparse", "quantised"],
)
def test_tensors_that_are_not_plain_are_refused(state, special):
    text = (
        "holds \\['b'\\], which are quantised, sparse or without values \\(on the meta "
        "device\\). Its tensors must be plain ones."
    )
    with pytest.raises(ValueError, match=text):
        read_state_dict({**state, "b": special()})
