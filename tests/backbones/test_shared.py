import torch

from sktransfer.backbones import shared_backbone


def _shared(**changes):
    options = {"weights": "default", "image_size": 64, "seed": 0, **changes}
    return shared_backbone("efficientnet_lite0", **options)


def test_a_backbone_is_loaded_once_a_process():
    assert _shared() is _shared(seed=1)
    assert _shared() is not _shared(image_size=96)
    assert not any(p.requires_grad for p in _shared().module.parameters())


def test_random_weights_go_by_their_seed():
    first = _shared(weights=None)
    assert first is _shared(weights=None)
    assert first is not _shared(weights=None, seed=1)


def test_a_file_written_anew_is_read_anew(tmp_path):
    path = tmp_path / "w.pth"
    module = _shared(weights=None).module
    torch.save(module.state_dict(), path)
    first = _shared(weights=path)
    assert first is _shared(weights=path)
    state = {k: v + 1 for k, v in module.state_dict().items()}
    torch.save({**state, "more": torch.ones(1)} | state, path)
    second_state = {k: v for k, v in torch.load(path).items() if k != "more"}
    torch.save(second_state, path)
    second = _shared(weights=path)
    assert second is not first
    assert not torch.equal(
        second.module.conv_stem.weight, first.module.conv_stem.weight
    )


def test_the_oldest_is_forgotten():
    first = _shared(weights=None, seed=100)
    for seed in range(101, 105):
        _shared(weights=None, seed=seed)
    assert _shared(weights=None, seed=100) is not first
