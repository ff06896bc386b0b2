"""Another modality in every part of the package: sequences of tokens, with a mask."""

import copy
import pickle
import subprocess
import sys
from dataclasses import replace
from unittest.mock import patch

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

from sktransfer import (
    Augmentation,
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedFeatureExtractor,
    config_context,
)
from sktransfer.activations import _pass, forward_passes, process_store
from sktransfer.activations._store import choose
from sktransfer.adaptation import DomainAdaptedClassifier
from sktransfer.advice import BackboneRanker, TransferAdvisor
from sktransfer.backbones import load_backbone, register_provider
from sktransfer.backbones._registry import PROVIDERS
from sktransfer.inputs import UnreadableSampleError
from tests._sequences import (
    SequenceNetwork,
    SequencePreprocessing,
    SequenceProvider,
    Sequences,
    make_sequences,
)

X, Y = make_sequences(48)
BACKBONE = load_backbone(SequenceNetwork(), preprocessing=SequencePreprocessing())
STAGES = BACKBONE.stage_names
DEPTHS = [0, 1, 2, 3, 4, "all"]


@pytest.fixture(autouse=True)
def _nothing_stored(monkeypatch):
    """Begin with nothing, and keep whatever fits: the clock has no say here."""
    process_store().clear()
    forward_passes().clear()

    def keep_all(measured, n_samples, budget):
        free = [replace(cost, keep_seconds=0.0) for cost in measured]
        return choose(free, n_samples, budget)

    monkeypatch.setattr(_pass, "choose", keep_all)


def classifier(**settings):
    defaults = {"freeze": 2, "max_epochs": 2, "batch_size": 16, "random_state": 0}
    return FineTunedClassifier(BACKBONE).set_params(**{**defaults, **settings})


def n_from_input():
    """Return how many samples went through the first stage."""
    return sum(n for (_, start, _), n in forward_passes().items() if start == "input")


def run_alone(ids, n_stages):
    """Return the hidden states (t, c) of one sequence in the plain network."""
    prepared = SequencePreprocessing().prepare(ids)
    state = {name: torch.from_numpy(part[None]) for name, part in prepared.items()}
    with torch.no_grad():
        for stage in [*SequenceNetwork().eval().stages.values()][:n_stages]:
            state = stage(state)
    return state["hidden"][0, : len(ids)]


@pytest.mark.parametrize("activation_dtype", ["float32", "auto"])
def test_features_of_every_stage_are_those_of_each_sample_alone(activation_dtype):
    with config_context(activation_dtype=activation_dtype):
        extractor = PretrainedFeatureExtractor(BACKBONE, stage=[1, 2, 3, 4])
        features = extractor.fit(X).transform(X)
    expected = [
        np.concatenate([run_alone(ids, k).mean(0) for k in (1, 2, 3, 4)]) for ids in X
    ]
    tolerance = 1e-5 if activation_dtype == "float32" else 5e-3  # stored in 16 bits
    np.testing.assert_allclose(features, expected, rtol=tolerance, atol=tolerance)
    assert extractor.stages_ == STAGES


def test_pooling_leaves_padding_out():
    pooled = {
        kind: PretrainedFeatureExtractor(BACKBONE, pooling=kind).fit_transform(X)
        for kind in ("max", "cls")
    }
    for ids, largest, first in zip(X, pooled["max"], pooled["cls"], strict=True):
        hidden = run_alone(ids, 4)
        np.testing.assert_allclose(largest, hidden.amax(0), rtol=5e-3, atol=5e-3)
        np.testing.assert_allclose(first, hidden[0], rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("freeze", DEPTHS)
def test_classifier_at_every_depth(freeze):
    model = classifier(freeze=freeze).fit(X, Y)
    proba = model.predict_proba(X)
    assert model.freeze_depth_ == (4 if freeze == "all" else freeze)
    np.testing.assert_allclose(proba.sum(1), 1)
    np.testing.assert_array_equal(model.predict(X), proba.argmax(1))
    before, after = BACKBONE.module.state_dict(), model.backbone_.module.state_dict()
    for name, tensor in before.items():
        is_frozen = STAGES.index(name.split(".")[1]) < model.freeze_depth_
        assert torch.equal(after[name], tensor) == is_frozen
    # Neither the other samples nor their order matter, nor does the type of X.
    np.testing.assert_array_equal(model.predict_proba(X[::-1])[::-1], proba)
    np.testing.assert_array_equal(model.predict_proba(X[:1]), proba[:1])
    arrays = np.empty(len(X), dtype=object)
    arrays[:] = X
    np.testing.assert_array_equal(model.predict_proba(arrays), proba)
    for twin in (
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        clone(model).fit(arrays, Y),
    ):
        np.testing.assert_array_equal(twin.predict_proba(X), proba)
    assert model.transform(X).shape == (48, 16)


def test_training_learns_what_the_sequences_say():
    model = classifier(max_epochs=25, lr=3e-3).fit(X, Y)
    X_test, y_test = make_sequences(60, seed=1)
    assert model.score(X_test, y_test) > 0.6  # one third by chance
    lengths = np.array([float(len(ids)) for ids in X])
    regressor = FineTunedRegressor(BACKBONE, freeze=2, max_epochs=2, random_state=0)
    regressor.fit(X, lengths)
    found = regressor.predict(X)
    assert found.shape == (48,)
    np.testing.assert_array_equal(regressor.predict(X[::-1])[::-1], found)


@pytest.mark.parametrize("freeze", [1, "all"])
def test_partial_fit(freeze):
    model = classifier(freeze=freeze)
    for part in (slice(24), slice(24, 48)):
        model.partial_fit(X[part], Y[part], classes=[0, 1, 2])
    assert model.predict_proba(X).shape == (48, 3)
    before, after = BACKBONE.module.state_dict(), model.backbone_.module.state_dict()
    frozen = [n for n in before if STAGES.index(n.split(".")[1]) < model.freeze_depth_]
    assert all(torch.equal(after[name], before[name]) for name in frozen)


@pytest.mark.parametrize(
    "settings",
    [
        {"early_stopping": True, "training__ema": 0.9},
        {"augment__activations": True},
        {"training__unfreeze_every": 1},
        {"training__adapter": "lora"},
        {"head": "mlp", "pooling": "avgmax"},
    ],
    ids=["validation", "activations", "unfreezing", "lora", "head"],
)
def test_ways_to_train(settings):
    first, second = (classifier(**settings).fit(X, Y) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


# Computed once, and never a different answer


def test_grid_search_computes_each_sample_once_and_alike_in_processes():
    grid = {"freeze": [2, 3, "all"]}
    searches = []
    for n_jobs in (1, 2):
        search = GridSearchCV(
            classifier(), grid, cv=2, scoring="neg_log_loss", n_jobs=n_jobs
        )
        with joblib.parallel_config(backend="multiprocessing"):
            searches.append(search.fit(X, Y).cv_results_)
        assert n_from_input() == len(X)
    for k in (0, 1):
        np.testing.assert_array_equal(
            *[results[f"split{k}_test_score"] for results in searches]
        )


def test_the_store_changes_no_prediction(tmp_path):
    def predict(**settings):
        return classifier(**settings).fit(X, Y).predict_proba(X)

    with config_context(memory_budget=0):
        without = predict()
    process_store().clear()
    forward_passes().clear()
    found = [predict(), predict()]
    assert n_from_input() == len(X)
    process_store().clear()
    found.append(predict(memory=tmp_path))
    process_store().clear()
    forward_passes().clear()
    found.append(predict(memory=tmp_path))
    assert n_from_input() == 0
    for proba in found:
        np.testing.assert_array_equal(proba, without)


IN_ANOTHER_PROCESS = """
import pickle
import sys
with open(sys.argv[1], "rb") as file:
    model, X, Y = pickle.load(file)
proba = [model.predict_proba(X), model.fit(X, Y).predict_proba(X)]
from sktransfer.activations import forward_passes
passed = sum(n for (_, start, _), n in forward_passes().items() if start == "input")
with open(sys.argv[1], "wb") as file:
    pickle.dump((proba, passed), file)
"""


def test_another_process_takes_what_is_stored(tmp_path):
    path, model = tmp_path / "model.pkl", classifier(memory=tmp_path / "store")
    expected = model.fit(X, Y).predict_proba(X)
    path.write_bytes(pickle.dumps((model, X, Y)))
    subprocess.run([sys.executable, "-c", IN_ANOTHER_PROCESS, path], check=True)
    found, n_passed = pickle.loads(path.read_bytes())
    for proba in found:
        np.testing.assert_array_equal(proba, expected)
    assert n_passed == 0


def test_tools_of_sklearn():
    pipeline = make_pipeline(
        PretrainedFeatureExtractor(BACKBONE), StandardScaler(), LogisticRegression()
    )
    scores = cross_val_score(pipeline, X, Y, cv=3)
    assert scores.shape == (3,) and scores.mean() > 0.4
    assert n_from_input() == len(X)
    assert cross_val_score(classifier(), X, Y, cv=2, error_score="raise").shape == (2,)


# The other ways in


@pytest.fixture
def provided():
    """Return the name of the network from a provider."""
    with patch.dict(PROVIDERS):
        register_provider("acme", SequenceProvider())
        yield "acme/tiny"


def test_name_of_a_provider_states_the_modality(provided, tmp_path):
    for estimator in (
        PretrainedFeatureExtractor(provided),
        FineTunedClassifier(provided),
        DomainAdaptedClassifier(FineTunedClassifier(provided)),
    ):
        tags = get_tags(estimator).input_tags
        assert not (tags.two_d_array or tags.three_d_array or tags.string)
    extractor = PretrainedFeatureExtractor(provided)
    expected = PretrainedFeatureExtractor(BACKBONE).fit_transform(X)
    np.testing.assert_array_equal(extractor.fit_transform(X), expected)
    expected = classifier().fit(X, Y).predict_proba(X)
    named = classifier(backbone=provided, memory=tmp_path)
    for n_passed in (len(X), 0):  # computed, and taken from the store
        process_store().clear()
        forward_passes().clear()
        proba = clone(named).fit(X, Y).predict_proba(X)
        np.testing.assert_array_equal(proba, expected)
        assert n_from_input() == n_passed
    with pytest.raises(ValueError, match="`image_size` must be None for sequences"):
        classifier(backbone=provided, image_size=32).fit(X, Y)


def test_searches_of_a_name_compute_each_sample_once(provided):
    grid = {"freeze": [2, 3, "all"]}
    found = [
        GridSearchCV(classifier(backbone=backbone), grid, cv=2).fit(X, Y)
        for backbone in (provided, BACKBONE)
    ]
    assert n_from_input() == len(X)
    scores = [search.cv_results_["mean_test_score"] for search in found]
    np.testing.assert_array_equal(*scores)


def test_advice_on_a_name(provided):
    ranker = BackboneRanker([provided], stages="all", random_state=0).fit(X, Y)
    assert ranker.scores_["stage"].tolist() == STAGES
    advisor = TransferAdvisor(provided, random_state=0).fit(X, Y)
    assert advisor.evidence_["image_sizes"] is None


@pytest.mark.parametrize("network", [SequenceNetwork, SequenceNetwork()], ids=type)
def test_a_network_without_preprocessing_gets_that_of_its_modality(network):
    extractor = PretrainedFeatureExtractor(network).fit(X)
    assert extractor.preprocessing_ == SequencePreprocessing()
    expected = PretrainedFeatureExtractor(BACKBONE).fit_transform(X)
    np.testing.assert_array_equal(extractor.transform(X), expected)


def test_exported_module_computes_the_same():
    model = classifier(max_epochs=1).fit(X, Y)
    module = model.to_torch()
    for ids, proba in zip(X[:8], model.predict_proba(X[:8]), strict=True):
        padded = SequencePreprocessing().prepare(ids)["ids"]
        found = module(torch.from_numpy(padded)[None])
        np.testing.assert_allclose(found[0], proba, rtol=2e-3, atol=2e-3)
    assert module.input_names == ("ids",)


def test_onnx_says_what_it_does_not_support(tmp_path):
    model = classifier(freeze="all").fit(X, Y)
    with pytest.raises(RuntimeError, match="cannot be translated to ONNX; `to_torch`"):
        model.to_onnx(tmp_path / "model.onnx")
    assert not [*tmp_path.iterdir()]


def test_advice():
    advisor = TransferAdvisor(BACKBONE, random_state=0).fit(X, Y)
    assert advisor.evidence_["image_sizes"] is None
    assert advisor.recommended_.set_params(max_epochs=1).fit(X, Y).score(X, Y) > 0.3
    ranker = BackboneRanker([BACKBONE], stages="all", random_state=0).fit(X, Y)
    assert ranker.scores_["stage"].tolist() == STAGES


@pytest.mark.parametrize("method", ["coral", "dann", "mcc", "shot"])
def test_adaptation_to_longer_sequences(method):
    domain = np.array([1 if len(ids) < 16 else -1 for ids in X])
    adapted = DomainAdaptedClassifier(classifier(freeze=3), method=method)
    adapted.fit(X, Y, sample_domain=domain)
    assert adapted.predict(X).shape == (48,)


# What does not fit


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": "crop_flip"}, "`augment` must be None for sequences. Got 'crop_f"),
        ({"image_size": 32}, "`image_size` must be None for sequences. Got 32"),
        ({"image_shape": (4, 4)}, "`image_shape` must be None .* takes sequences. Got"),
        ({"value_range": (0, 1)}, "`value_range` must be 'auto' .* takes sequences. "),
        ({"augment": Augmentation(mixup=0.2)}, "`mixup` and `cutmix` need activations"),
        ({"pooling": "flatten"}, "`pooling='flatten'` needs activations of one shape"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_parameters_that_do_not_apply(settings, message):
    with pytest.raises(ValueError, match=message):
        classifier(**settings).fit(X, Y)


def test_slim_pickles_need_a_backbone_by_name():
    model = classifier(freeze="all").fit(X, Y)
    with config_context(slim_pickles=True):
        with pytest.raises(ValueError, match="whose `backbone` was given by name"):
            pickle.dumps(model)


def test_samples_that_cannot_be_read_are_named():
    broken = [*X[:5], [], *X[5:]]
    message = "Samples must be readable. Got sample 5, .* The reason: it has no tokens"
    with pytest.raises(UnreadableSampleError, match=message):
        classifier().fit(broken, [*Y[:5], 0, *Y[5:]])
    extractor = PretrainedFeatureExtractor(BACKBONE, on_error="warn").fit(broken)
    assert extractor.unreadable_["row"].tolist() == [5]
    with pytest.warns(UserWarning, match="1 of 49 samples cannot be read: .* sample 5"):
        features = extractor.transform(broken)
    assert np.flatnonzero(np.isnan(features).any(1)).tolist() == [5]
    with pytest.raises(ValueError, match="at least 1 sample"):
        classifier().fit([], [])
    assert len(Sequences(X).take([3, 1])) == 2
