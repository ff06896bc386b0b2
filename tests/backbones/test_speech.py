import numpy as np
import pytest
import torch

from sktransfer import PretrainedFeatureExtractor
from sktransfer.backbones import load_backbone
from sktransfer.backbones._speech import SPEECH_TYPES, n_after
from sktransfer.inputs import Waveform
from tests._recordings import RATE, make_tone
from tests._speech_networks import (
    CONFIGS,
    N_LAYERS,
    WAVEFORMS,
    plain_inputs,
    plain_network,
    save_network,
)

TONES = [make_tone(s, seed=i) for i, s in enumerate((0.05, 0.21, 0.4, 0.63))]


@pytest.fixture(scope="module", params=[*CONFIGS])
def folder(request, tmp_path_factory):
    return save_network(tmp_path_factory.mktemp(request.param), request.param)


def stacked(prepared):
    """Return the batch of prepared samples, with more padding where they are short."""
    longest = max(len(p["mask"]) for p in prepared)
    batch = {}
    for name in prepared[0]:
        parts = [torch.from_numpy(p[name]) for p in prepared]
        batch[name] = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
        assert batch[name].shape[1] == longest
    return batch


@torch.no_grad()
def test_stages_together_are_the_network_at_every_boundary(folder):
    backbone = load_backbone(folder)
    network = plain_network(folder)
    layers = [f"layer{i}" for i in range(N_LAYERS)]
    assert backbone.stage_names[-N_LAYERS:] == layers
    prepared = [backbone.preprocessing.prepare(Waveform(t, RATE)) for t in TONES]
    batch = stacked(prepared)
    whole = backbone.module(batch)
    for i, tone in enumerate(TONES):
        expected = network(**plain_inputs(folder, tone))[0][0]
        is_valid = whole["mask"][i]
        found = whole["hidden"][i][is_valid]
        assert is_valid.any()
        np.testing.assert_allclose(found, expected[: len(found)], atol=1e-5, rtol=1e-4)
    for name in backbone.stage_names:
        prefix, suffix = backbone.split(name)
        state = suffix(prefix(batch))
        assert state["mask"].equal(whole["mask"])
        np.testing.assert_allclose(state["hidden"], whole["hidden"], atol=1e-5)


@torch.no_grad()
def test_neither_padding_nor_neighbours_change_a_recording(folder):
    backbone = load_backbone(folder)
    prepared = [backbone.preprocessing.prepare(Waveform(t, RATE)) for t in TONES]
    together = backbone.module(stacked(prepared))
    for i, one in enumerate(prepared):
        alone = backbone.module(stacked([one]))
        is_valid = together["mask"][i]
        assert is_valid.sum() == alone["mask"].sum()
        np.testing.assert_allclose(
            together["hidden"][i][is_valid],
            alone["hidden"][0][alone["mask"][0]],
            atol=1e-5,
        )


@pytest.mark.parametrize("kind", WAVEFORMS)
def test_all_positions_of_a_waveform_are_used(kind, tmp_path):
    folder = save_network(tmp_path, kind)
    features = PretrainedFeatureExtractor(folder).fit_transform(
        [(tone, RATE) for tone in TONES]
    )
    for tone, found in zip(TONES, features, strict=True):
        with torch.no_grad():
            hidden = plain_network(folder)(**plain_inputs(folder, tone))[0][0]
        np.testing.assert_allclose(found, hidden.mean(0), atol=2e-3)


def test_features_of_the_spectrogram_transformer_are_what_it_pools(tmp_path):
    folder = save_network(tmp_path, "ast")
    extractor = PretrainedFeatureExtractor(folder)
    (found,) = extractor.fit_transform([(TONES[2], RATE)])
    with torch.no_grad():
        expected = plain_network(folder)(**plain_inputs(folder, TONES[2])).pooler_output
    np.testing.assert_allclose(found, expected[0], atol=2e-3)


def test_number_of_positions_after_convolutions():
    steps = [(10, 5), (3, 2)]
    found = torch.nn.Conv1d(1, 1, 10, 5)(torch.zeros(1, 1, 103))
    assert n_after(103, steps) == (found.shape[2] - 3) // 2 + 1
    assert n_after(torch.tensor([103, 10]), steps).tolist() == [9, 0]
    assert "wavlm" in SPEECH_TYPES
