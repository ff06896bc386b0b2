import sys
from importlib.util import find_spec
from unittest.mock import patch

import pytest
import torch

from sktransfer.backbones import list_backbones, load_backbone, model_card
from sktransfer.backbones._shipped_audio import AUDIO


def test_libraries_that_are_not_installed():
    load_backbone("speech_embedding")  # `patch` forgets modules that are imported in it
    for library in ("soundfile", "soxr"):
        with patch.dict(sys.modules, {library: None}):
            with pytest.raises(
                ImportError, match="pip install 'sktransfer\\[audio\\]'"
            ):
                load_backbone("speech_embedding")


@pytest.mark.parametrize("name", [*AUDIO])
def test_listed_and_described(name):
    if find_spec(AUDIO[name].package) is None:
        pytest.skip(f"{AUDIO[name].package} is not installed")
    backbone = load_backbone(name)
    (row,) = list_backbones(name).to_dict("records")
    about = backbone.n_parameters, AUDIO[name].license, True
    assert (row["parameters"], row["license"], row["available"]) == about
    card = model_card(backbone)
    assert AUDIO[name].source in card.source
    assert card.license == AUDIO[name].license
    with pytest.raises(ValueError, match="must be 'default', None or the path of a fi"):
        load_backbone(name, weights="IMAGENET1K_V1")


def test_checkpoints_of_shipped_networks(tmp_path):
    for name in AUDIO:
        network = load_backbone(name, weights=None, random_state=0).network
        state, path = network.state_dict(), tmp_path / f"{name}.pt"
        torch.save(state, path)
        found = load_backbone(name, weights=path)
        assert found.fingerprint == load_backbone(name, weights=state).fingerprint
        assert found.network.state_dict().keys() == state.keys()
        assert all(found.network.state_dict()[k].equal(state[k]) for k in state)
        other = {"first.weight": torch.zeros(3)}
        with pytest.raises(
            ValueError, match="does not fit StagedModule: .* is missing"
        ):
            load_backbone(name, weights=other)


def test_checkpoint_as_resemblyzer_saves_it(tmp_path):
    state = load_backbone("resemblyzer", weights=None, random_state=0).network
    names = {k.split(".", 2)[2]: v for k, v in state.state_dict().items()}
    assert "linear.weight" in names and "lstm.weight_hh_l2" in names
    names |= {"similarity_weight": torch.ones(1), "similarity_bias": torch.ones(1)}
    path = tmp_path / "pretrained.pt"
    torch.save({"step": 3, "model_state": names, "optimizer_state": {"lr": 1}}, path)
    for weights in (path, names):
        found = load_backbone("resemblyzer", weights=weights).network.state_dict()
        assert all(found[k].equal(v) for k, v in state.state_dict().items())
