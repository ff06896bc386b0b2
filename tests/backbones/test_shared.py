import os

import pytest
import torch

from sktransfer.backbones import _shared, load_backbone, shared_backbone


@pytest.fixture(autouse=True)
def _forget():
    _shared._loaded.clear()
    yield
    _shared._loaded.clear()


def get(spec="timm/test_resnet", *, weights=None, image_size=None, seed=0):
    return shared_backbone(spec, weights=weights, image_size=image_size, seed=seed)


def test_the_same_is_loaded_once():
    assert get() is get()
    assert get(image_size=[64, 64]) is get(image_size=(64, 64))
    first = get("efficientnet_lite0", weights="default", seed=0)
    assert first is get("efficientnet_lite0", weights="default", seed=1)


def test_others_are_loaded_apart():
    found = [get(), get(seed=1), get(image_size=64), get("timm/test_vit")]
    assert len({id(backbone) for backbone in found}) == 4
    weights = [backbone.module.state_dict() for backbone in found[:2]]
    assert not torch.equal(weights[0]["conv1.0.weight"], weights[1]["conv1.0.weight"])


def test_weights_ask_for_no_gradient():
    assert not any(p.requires_grad for p in get().module.parameters())


def test_only_some_are_kept():
    first = get(seed=0)
    for seed in range(1, 5):
        get(seed=seed)
    assert len(_shared._loaded) == 4
    assert get(seed=0) is not first


def test_file_that_is_written_anew_is_read_anew(tmp_path):
    path = str(tmp_path / "weights.pth")
    for seed in (0, 1):
        module = load_backbone(
            "timm/test_resnet", weights=None, random_state=seed
        ).module
        torch.save(module.state_dict(), path)
        os.utime(path, ns=(seed, seed))
        backbone = get(weights=path)
        assert backbone is get(weights=path)
        expected = module.state_dict()["conv1.0.weight"]
        assert torch.equal(backbone.module.state_dict()["conv1.0.weight"], expected)


def test_state_dicts_are_told_apart_by_their_content():
    first, second = (get(seed=seed).module.state_dict() for seed in (0, 1))
    backbone = get(weights=first)
    assert backbone is get(weights={k: v.clone() for k, v in first.items()})
    assert backbone is not get(weights=second)


def test_weights_of_another_type_are_an_error():
    with pytest.raises(TypeError, match="`weights` must be .*state dict. Got \\[\\]."):
        get(weights=[])


def write(path, seed):
    """Write weights, and set the times of the file back."""
    module = load_backbone("timm/test_resnet", weights=None, random_state=seed).module
    torch.save(module.state_dict(), path)
    os.utime(path, (1e9, 1e9))
    return module.state_dict()["conv1.0.weight"]


def first_weights(path):
    return get(weights=path).module.state_dict()["conv1.0.weight"]


def test_files_of_one_relative_path_are_told_apart(tmp_path, monkeypatch):
    for seed in (1, 2):
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        expected = write(folder / "best.pt", seed)
        monkeypatch.chdir(folder)
        assert torch.equal(first_weights("./best.pt"), expected)


def test_link_that_is_turned_to_another_file_is_read_anew(tmp_path):
    link = tmp_path / "best.pt"
    for seed in (1, 2):
        expected = write(tmp_path / f"{seed}.pt", seed)
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / f"{seed}.pt")
        assert torch.equal(first_weights(str(link)), expected)


def test_file_that_is_written_anew_within_a_tick_is_read_anew(tmp_path, monkeypatch):
    path = tmp_path / "best.pt"
    monkeypatch.setattr("sktransfer.utils._hashing._stamp", lambda status: (0, 0, 0, 0))
    monkeypatch.setattr("sktransfer.utils._hashing._SETTLED", float("inf"))
    for seed in (1, 2):
        expected = write(path, seed)
        assert torch.equal(first_weights(str(path)), expected)


def test_file_that_is_written_while_it_is_read_is_not_shared(tmp_path, monkeypatch):
    path = tmp_path / "best.pt"
    write(path, 1)
    load = _shared.load_backbone

    def load_and_write(*args, **kwargs):
        backbone = load(*args, **kwargs)
        write(path, 2)
        return backbone

    monkeypatch.setattr(_shared, "load_backbone", load_and_write)
    get(weights=str(path))
    assert len(_shared._loaded) == 0


def test_network_whose_code_was_replaced_is_loaded_anew(monkeypatch):
    before = get()
    last = before.stage_names[-1]
    key, kind = before.prefix_fingerprint(last), type(before.module.bn1)
    forward = kind.forward
    assert get() is before
    with monkeypatch.context() as patch:
        patch.setattr(kind, "forward", lambda self, x: -forward(self, x))
        patched = get()
        assert patched is not before and get() is patched
        assert patched.prefix_fingerprint(last) != key
    assert get() is not patched
