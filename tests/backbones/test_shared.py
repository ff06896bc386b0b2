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
