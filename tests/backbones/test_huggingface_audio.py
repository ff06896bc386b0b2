import json
import pickle

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from sktransfer import FineTunedClassifier
from sktransfer.activations import _pass, forward_passes, process_store
from sktransfer.backbones import load_backbone
from sktransfer.backbones._huggingface_audio import takes_recordings
from tests._recordings import RATE, keep_all, make_tone
from tests._speech_networks import CONFIGS, save_network

X = [(make_tone(0.1 + i / 30, is_rising=i % 2 == 1, seed=i), RATE) for i in range(12)]
Y = np.arange(12) % 2


@pytest.mark.parametrize("kind", ["wav2vec2", "wavlm-large", "whisper", "ast"])
def test_classifier_and_grid_over_freeze(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(_pass, "choose", keep_all)
    folder = save_network(tmp_path, kind)
    process_store().clear()
    forward_passes().clear()
    model = FineTunedClassifier(folder, max_epochs=1, batch_size=4, random_state=0)
    grid = {"freeze": [-2, -1]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, Y)
    n_from_input = sum(
        n for (_, start, _), n in forward_passes().items() if start == "input"
    )
    assert n_from_input == len(X)
    proba = search.predict_proba(X)
    twin = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(twin.predict_proba(X), proba)
    np.testing.assert_allclose(search.predict_proba(X[3:5]), proba[3:5], atol=1e-5)


@pytest.mark.parametrize("kind", [*CONFIGS])
def test_preprocessing_is_that_of_the_feature_extractor(kind, tmp_path):
    folder = save_network(tmp_path, kind)
    assert takes_recordings(folder)
    preprocessing = load_backbone(folder).preprocessing
    seconds = {"whisper": 1.0, "ast": 0.64}.get(kind, 30.0)
    assert (preprocessing.sampling_rate, preprocessing.max_seconds) == (RATE, seconds)
    if kind.startswith("w") and kind != "whisper":
        front_end = preprocessing.front_end
        assert (front_end.window, front_end.hop) == (165, 320)
        assert front_end.is_standardized


def test_folders_that_hold_no_network_for_recordings(tmp_path):
    assert not takes_recordings(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert not takes_recordings(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "hubert"}))
    with pytest.raises(
        OSError, match="is no folder with a network and its tokenizer or"
    ):
        load_backbone(str(tmp_path))


def test_random_weights(tmp_path):
    folder = save_network(tmp_path, "hubert")
    random = [load_backbone(folder, weights=None, random_state=0) for _ in "ab"]
    assert random[0].fingerprint == random[1].fingerprint
    assert random[0].fingerprint != load_backbone(folder).fingerprint
