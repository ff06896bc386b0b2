"""Checkpoints of networks of transformers, under the names of the library."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from sktransfer.backbones import load_backbone
from tests import _speech_networks, _transformers

SPEECH = [*_speech_networks.CONFIGS]


def save(folder, kind):
    """Write a network; return its folder, and its checkpoint by the library's names."""
    make = _speech_networks if kind in SPEECH else _transformers
    return make.save_network(folder, kind), load_file(folder / "model.safetensors")


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].equal(tensor), name


@pytest.mark.parametrize("kind", [*SPEECH, "bert", "t5", "modernbert", "gpt2"])
def test_checkpoint_has_the_weights_of_its_folder(kind, tmp_path):
    folder, state = save(tmp_path, kind)
    expected = load_backbone(folder)
    state = {f"start.{name}": tensor for name, tensor in state.items()}
    state["start.own_head.weight"] = torch.zeros(3)
    path = tmp_path / "other.safetensors"
    save_file(state, path)
    before = torch.random.get_rng_state()
    found = load_backbone(folder, weights=path)
    assert torch.random.get_rng_state().equal(before)
    assert_equal(found.network.state_dict(), expected.network.state_dict())
    assert found.weights == str(path) and found.license is None


@pytest.mark.parametrize("kind", ["wav2vec2", "ast", "bert"])
def test_own_names_fit_as_well(kind, tmp_path):
    folder, _ = save(tmp_path, kind)
    state = {k: v + 1 for k, v in load_backbone(folder).network.state_dict().items()}
    found = load_backbone(folder, weights=state)
    assert_equal(found.network.state_dict(), state)
    assert found.fingerprint != load_backbone(folder).fingerprint


def test_old_names_of_norms_and_directions(tmp_path):
    folder, state = save(tmp_path, "hubert")
    names = {"parametrizations.weight.original0": "weight_g"}
    names["parametrizations.weight.original1"] = "weight_v"
    for new, old in names.items():
        (name,) = [key for key in state if key.endswith(new)]
        state[name.removesuffix(new) + old] = state.pop(name)
    found = load_backbone(folder, weights=state)
    assert_equal(found.network.state_dict(), load_backbone(folder).network.state_dict())


@pytest.mark.parametrize("kind", ["wav2vec2", "ast", "whisper", "bert"])
def test_checkpoint_that_lacks_a_layer(kind, tmp_path):
    folder, state = save(tmp_path, kind)
    last = sorted(k for k in state if ".2." in k and not k.startswith("decoder"))[-1]
    del state[last]
    with pytest.raises(ValueError, match="does not fit LibraryNetwork: .* is missing"):
        load_backbone(folder, weights=state)


def test_checkpoint_of_another_network(tmp_path):
    folder, _ = save(tmp_path, "wav2vec2")
    (tmp_path / "other").mkdir()
    _, other = save(tmp_path / "other", "whisper")
    with pytest.raises(ValueError, match="does not fit LibraryNetwork: .* is missing"):
        load_backbone(folder, weights=other)
