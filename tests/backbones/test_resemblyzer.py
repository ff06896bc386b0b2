from importlib.util import find_spec
from unittest.mock import patch

import numpy as np
import pytest
import torch

from sktransfer.backbones._resemblyzer import (
    N_PARAMETERS,
    load_resemblyzer,
    make_network,
)
from tests._recordings import make_tone


def load(weights):
    return load_resemblyzer(weights=weights, make=lambda function: function())


def original(network):
    """Return the layers of the package, with the weights of a network."""
    lstm, linear = (
        torch.nn.LSTM(40, 256, 3, batch_first=True),
        torch.nn.Linear(256, 256),
    )
    lstm.load_state_dict(network.stages["lstm"].lstm.state_dict())
    linear.load_state_dict(network.stages["embedding"].linear.state_dict())

    def embed(windows):
        _, (hidden, _) = lstm(windows)
        raw = linear(hidden[-1]).relu()
        return raw / raw.norm(dim=1, keepdim=True)

    return embed


@torch.no_grad()
@pytest.mark.parametrize("weights", ["default", None])
def test_embeddings_are_those_of_the_original_layers(weights):
    if weights == "default" and find_spec("resemblyzer") is None:
        pytest.skip("resemblyzer is not installed")
    backbone = load(weights)
    assert backbone.n_parameters == N_PARAMETERS
    assert backbone.stage_names == ["lstm", "embedding"]
    assert backbone.own_pooling == ("avg", True)
    prepared = backbone.preprocessing.front_end.prepare(make_tone(3.0), 16_000)
    windows = torch.from_numpy(prepared["hidden"])
    found = backbone.module.eval()(
        {"hidden": windows[None], "mask": torch.ones(1, len(windows)) > 0}
    )
    expected = original(backbone.module)(windows.unflatten(1, (160, 40)))
    np.testing.assert_allclose(found["hidden"][0], expected, atol=1e-5)


@torch.no_grad()
def test_windows_of_padding_change_nothing():
    network = make_network().eval()
    hidden = torch.rand(2, 3, 6400)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    found = network({"hidden": hidden, "mask": mask})["hidden"]
    alone = network({"hidden": hidden[1:, :1], "mask": mask[1:, :1]})["hidden"]
    np.testing.assert_allclose(found[1, :1], alone[0], atol=1e-6)
    assert (found[1, 1:] == 0).all()


def test_package_that_is_not_installed():
    with patch("sktransfer.backbones._resemblyzer.find_spec", return_value=None):
        with pytest.raises(ImportError, match="pip install --no-deps resemblyzer"):
            load("default")
