"""Recordings in every part of the package, on the shipped network for spoken words."""

import pickle
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

from sktransfer import (
    FineTunedClassifier,
    FineTunedClassifierCV,
    FineTunedRegressor,
    PretrainedFeatureExtractor,
    config_context,
)
from sktransfer.activations import _pass, forward_passes, process_store
from sktransfer.adaptation import DomainAdaptedClassifier
from sktransfer.advice import BackboneRanker, TransferAdvisor
from sktransfer.backbones import load_backbone
from tests._recordings import keep_all, make_recordings, make_tone, write_wav

NAME = "speech_embedding"
N = 16


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Return the paths of recordings, and whether their tones rise."""
    return make_recordings(tmp_path_factory.mktemp("recordings"), N)


@pytest.fixture(autouse=True)
def _nothing_stored(monkeypatch):
    """Begin with nothing, and keep whatever fits: the clock has no say here."""
    process_store().clear()
    forward_passes().clear()
    monkeypatch.setattr(_pass, "choose", keep_all)


def classifier(**settings):
    defaults = {"freeze": 4, "max_epochs": 2, "batch_size": 8, "random_state": 0}
    return FineTunedClassifier(NAME).set_params(**{**defaults, **settings})


def n_from_input():
    """Return how many samples went through the first stage."""
    return sum(n for (_, start, _), n in forward_passes().items() if start == "input")


def test_shipped_network_is_all_a_user_writes(recordings, tmp_path):
    X, y = recordings
    model = FineTunedClassifier(NAME, random_state=0).fit(
        X, np.array(["falls", "rises"])[y]
    )
    X_test, y_test = make_recordings(tmp_path, 16, seed=1)
    found = model.predict(X_test)
    assert np.mean((found == "rises") == y_test) > 0.8
    assert model.preprocessing_.sampling_rate == 16_000


@pytest.mark.parametrize("freeze", [3, 5, "all"])
def test_classifier_at_several_depths(recordings, freeze):
    X, y = recordings
    model = classifier(freeze=freeze).fit(X, y)
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba.sum(1), 1)
    before = load_backbone(NAME).module.state_dict()
    after = model.backbone_.module.state_dict()
    names = model.backbone_.stage_names
    for name, tensor in before.items():
        is_frozen = names.index(name.split(".")[1]) < model.freeze_depth_
        assert after[name].equal(tensor) == is_frozen
    # Neither the other samples nor their order matter, nor does the type of X.
    np.testing.assert_allclose(model.predict_proba(X[::-1])[::-1], proba, atol=1e-6)
    np.testing.assert_allclose(model.predict_proba(X[:1]), proba[:1], atol=1e-6)
    twin = pickle.loads(pickle.dumps(model))
    encoded = [Path(path).read_bytes() for path in X]
    for same in (np.array(X), np.array(X)[:, None], encoded):
        np.testing.assert_array_equal(twin.predict_proba(same), proba)


def test_store_changes_no_prediction(recordings, tmp_path):
    X, y = recordings
    with config_context(memory_budget=0):
        expected = classifier().fit(X, y).predict_proba(X)
    for n_passed in (N, 0):
        process_store().clear()
        forward_passes().clear()
        model = classifier(memory=tmp_path).fit(X, y)
        np.testing.assert_array_equal(model.predict_proba(X), expected)
        assert n_from_input() == n_passed


def test_searches_encode_each_recording_once(recordings):
    X, y = recordings
    grid = {"freeze": [4, 5, "all"]}
    search = GridSearchCV(classifier(), grid, cv=2, error_score="raise").fit(X, y)
    assert n_from_input() == N
    process_store().clear()
    forward_passes().clear()
    found = FineTunedClassifierCV(classifier(), **grid, cv=2).fit(X, y)
    assert n_from_input() == N
    scores = "split0_test_score"  # of the first fold, before candidates are dropped
    assert (found.cv_results_[scores] == search.cv_results_[scores]).all()


def test_extractor_in_tools_of_sklearn(recordings):
    X, y = recordings
    pipeline = make_pipeline(
        PretrainedFeatureExtractor(NAME, stage="block3"),
        LogisticRegression(max_iter=1000),
    )
    scores = cross_val_score(pipeline, X, y, cv=2, error_score="raise")
    assert scores.shape == (2,)
    assert n_from_input() == N
    features = clone(pipeline[0]).fit_transform(pd.Series(X))
    assert features.shape == (N, 2 * 96)


def test_small_pickles_load_the_frozen_weights_again(recordings):
    X, y = recordings
    model = classifier(freeze="all").fit(X, y)
    expected = model.predict_proba(X)
    whole = len(pickle.dumps(model))
    with config_context(slim_pickles=True):
        pickled = pickle.dumps(model)
    assert len(pickled) < whole / 4
    np.testing.assert_array_equal(pickle.loads(pickled).predict_proba(X), expected)


def test_defaults_choose_no_views_and_a_rate_for_the_stages(recordings):
    X, y = recordings
    model = classifier(augment="auto", training__backbone_lr_ratio="auto").fit(X, y)
    assert 0 < model.backbone_lr_ratio_ <= 1
    with pytest.raises(
        ValueError, match="`augment` must be None for a backbone that t"
    ):
        classifier(augment="light").fit(X, y)
    assert classifier(augment__activations=True).fit(X, y).predict(X).shape == (N,)


@pytest.mark.parametrize(
    "settings",
    [{"training__adapter": "lora"}, {"training__layer_decay": 0.5, "freeze": 3}],
    ids=["lora", "decay"],
)
def test_ways_to_train(recordings, settings):
    X, y = recordings
    first, second = (classifier(**settings).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


def test_regressor(recordings):
    X, _ = recordings
    seconds = [Path(path).stat().st_size / 32_000 for path in X]
    model = FineTunedRegressor(NAME, freeze=5, max_epochs=1, random_state=0)
    assert model.fit(X, seconds).predict(X).shape == (N,)


def test_odd_recordings_train_and_predict(tmp_path):
    tone = make_tone(1.0)
    odd = {
        "silent": 0 * tone,
        "clipped": np.clip(20 * tone, -1, 1),
        "one value": tone[:1],
        "eight bits": tone,
        "stereo": np.stack([tone, tone], axis=1),
    }
    X = [
        write_wav(tmp_path / f"{name}.wav", v, n_bytes=1 if name == "eight bits" else 3)
        for name, v in odd.items()
    ]
    y = [0, 1, 0, 1, 1]
    proba = classifier(freeze="all").fit(X, y).predict_proba(X)
    assert np.isfinite(proba).all()
    X_of_arrays = [(values, 16_000) for values in odd.values()]
    assert classifier(freeze="all").fit(X_of_arrays, y).predict(X).shape == (5,)


def test_samples_that_cannot_be_read_are_named(recordings):
    X, y = recordings
    broken = [*X[:5], __file__, *X[5:]]
    with pytest.raises(ValueError, match=r"Got sample 5 \('.*test_audio.py'\), which"):
        classifier().fit(broken, [*y, 0])
    extractor = PretrainedFeatureExtractor(NAME, on_error="warn").fit(broken)
    assert extractor.unreadable_["row"].tolist() == [5]
    with pytest.warns(UserWarning, match="1 of 17 samples cannot be read: .* sample 5"):
        features = extractor.transform(broken)
    assert np.flatnonzero(np.isnan(features).any(1)).tolist() == [5]


def test_file_that_changes_is_read_again(recordings, tmp_path):
    path = write_wav(tmp_path / "a.wav", make_tone(0.5))
    extractor = PretrainedFeatureExtractor(NAME).fit([path])
    before = extractor.transform([path])
    write_wav(tmp_path / "a.wav", make_tone(0.5, is_rising=False))
    assert not np.allclose(extractor.transform([path]), before)


def test_advice(recordings):
    X, y = recordings
    ranker = BackboneRanker([NAME], stages="all", random_state=0).fit(X, y)
    assert len(ranker.scores_) == 6
    advisor = TransferAdvisor(NAME, random_state=0).fit(X, y)
    recommended = advisor.recommended_.set_params(max_epochs=1)
    assert recommended.fit(X, y).predict(X).shape == (N,)


def test_adaptation_to_noisy_recordings(recordings):
    X, y = recordings
    domain = np.where(np.arange(N) < N // 2, 1, -1)
    adapted = DomainAdaptedClassifier(classifier(freeze=5), method="coral")
    assert adapted.fit(X, y, sample_domain=domain).predict(X).shape == (N,)


def test_recordings_without_a_backbone_named(recordings):
    X, y = recordings
    with pytest.raises(
        ValueError, match="If X holds recordings, pass backbone='speech"
    ):
        FineTunedClassifier().fit(X, y)


def test_tags_say_that_samples_are_strings():
    with patch("sktransfer.backbones._shipped_audio.load_audio") as load:
        tags = get_tags(FineTunedClassifier(NAME)).input_tags
    assert tags.string and not tags.two_d_array
    load.assert_not_called()
