import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import (
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedFeatureExtractor,
)
from sktransfer.inputs import MODALITIES
from sktransfer.inspection._baselines import (
    baselines_of,
    linear_model,
    score_label,
    task_of,
)


def names_of(estimator, X, baselines="auto"):
    pairs = baselines_of(estimator, X, baselines, "classification")
    return [name for name, _ in pairs]


def test_raw_features_are_those_of_the_modality(network, digits):
    images, texts, rows = digits[0], ["a b", "c d"], np.zeros((2, 3))
    assert names_of(FineTunedClassifier(network), images) == ["raw pixels"]
    assert names_of(FineTunedClassifier("minilm"), texts)[0] == "TF-IDF"
    assert names_of(FineTunedClassifier(lambda: None), rows) == ["raw columns"]
    recordings = names_of(FineTunedClassifier("resemblyzer"), ["a.wav"])
    assert recordings == ["random weights"]


def test_words_of_both_texts_of_a_pair_count():
    pairs = [("dogs bark", "loud"), ("cats purr", "soft")]
    tfidf = MODALITIES["text"].plain_features({})[1].fit(pairs)
    counted = tfidf[-1].get_feature_names_out()
    assert {"dogs", "loud", "soft"} <= {*counted}


def test_random_weights_are_of_networks_with_a_name():
    pipeline = make_pipeline(PretrainedFeatureExtractor(), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [1]})
    found = dict(baselines_of(search, ["a.png"], "auto", "classification"))
    assert [*found] == ["raw pixels", "random weights"]
    inner = found["random weights"].estimator.steps[0][1]
    assert inner.weights is None
    assert pipeline.steps[0][1].weights == "default"


def test_linear_models_suit_the_task():
    assert linear_model("classification", C=3).C == 3
    assert isinstance(linear_model("regression"), RidgeCV)
    for_labels = linear_model("multilabel", C=3)
    assert isinstance(for_labels, OneVsRestClassifier)
    assert for_labels.estimator.C == 3


def test_task_is_that_of_a_regressor_or_of_the_targets():
    whole, parts, labels = [0, 1, 2], [0.5, 1.5, 2], [[0, 1], [1, 1], [1, 0]]
    extractor = PretrainedFeatureExtractor()
    regressor = GridSearchCV(make_pipeline(FineTunedRegressor()), {})
    assert {task_of(regressor, y) for y in (whole, parts, labels)} == {"regression"}
    found = [task_of(extractor, y) for y in (whole, parts, labels)]
    assert found == ["classification", "regression", "multilabel"]


@pytest.mark.parametrize(
    ("scoring", "task", "label"),
    [
        (None, "regression", "R²"),
        (None, "multilabel", "accuracy"),
        ("f1_macro", "classification", "f1 macro"),
    ],
)
def test_scores_have_words(scoring, task, label):
    assert score_label(scoring, task) == label


def test_what_an_estimator_lacks_raises(network, digits):
    X = digits[0]
    with pytest.raises(ValueError, match="'random weights' for this estimator, as it "):
        names_of(FineTunedClassifier(network), X, ["random weights"])
    with pytest.raises(ValueError, match="cannot have 'raw' .* does not begin with"):
        names_of(StandardScaler(), X, ["raw"])


@pytest.mark.parametrize("wrong", ["pixels", ["pixels"], [3], [("a", 1, 2)]])
def test_other_baselines_raise(network, digits, wrong):
    with pytest.raises(ValueError, match="must be 'auto' or a list, in which each is"):
        names_of(FineTunedClassifier(network), digits[0], wrong)
