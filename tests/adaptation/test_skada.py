"""Estimators of sktransfer with skada's splitters, scorers and pipelines."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.preprocessing import StandardScaler

from sktransfer import PretrainedFeatureExtractor
from sktransfer.adaptation import MCC, MMD
from tests.adaptation._domains_of_digits import (
    DOMAIN,
    INK,
    MASKED,
    NEW,
    ROWS,
    Y_NEW,
    N,
    classifier,
    make_network,
    regressor,
)

with config_context():  # importing skada switches metadata routing on
    from skada import CORALAdapter, SubspaceAlignmentAdapter, make_da_pipeline
    from skada.metrics import (
        ImportanceWeightedScorer,
        PredictionEntropyScorer,
        SoftNeighborhoodDensity,
    )
    from skada.model_selection import SourceTargetShuffleSplit
    from skada.utils import source_target_split

SPLIT = SourceTargetShuffleSplit(n_splits=2, test_size=0.3, random_state=0)


@pytest.fixture(autouse=True)
def _routing():
    with config_context(enable_metadata_routing=True):
        yield


@pytest.mark.parametrize(
    "kind",
    [
        PredictionEntropyScorer,
        ImportanceWeightedScorer,
        SoftNeighborhoodDensity,
    ],
)
def test_scorers(kind):
    model = classifier("mmd")
    if kind is ImportanceWeightedScorer:  # asks this of any estimator
        model.set_score_request(sample_weight=True)
    scores = cross_val_score(
        model,
        ROWS,
        MASKED,
        cv=SPLIT,
        scoring=kind(),
        params={"sample_domain": DOMAIN},
        error_score="raise",
    )
    assert scores.shape == (2,) and np.isfinite(scores).all()


def test_entropy_is_that_of_our_probabilities():
    model = classifier("mmd").fit(ROWS, MASKED, sample_domain=DOMAIN)
    found = PredictionEntropyScorer(reduction="mean")(
        model, ROWS, MASKED, sample_domain=DOMAIN
    )
    p = model.predict_proba(ROWS[N:])
    assert found == pytest.approx((p * np.log(p)).mean(), rel=1e-5)


def test_method_and_weight_are_chosen_without_labels():
    search = GridSearchCV(
        classifier("none", freeze="none"),
        {"method": ["none", MMD(weight=0.3), MMD(weight=3.0)]},
        cv=SPLIT,
        scoring=PredictionEntropyScorer(),
        error_score="raise",
    )
    search.fit(ROWS, MASKED, sample_domain=DOMAIN)
    expected = classifier("none", freeze="none").set_params(**search.best_params_)
    expected.fit(ROWS, MASKED, sample_domain=DOMAIN)
    np.testing.assert_array_equal(
        search.predict_proba(NEW), expected.predict_proba(NEW)
    )


def test_splits_are_those_of_the_domains():
    (train, test), _ = SPLIT.split(ROWS, MASKED, sample_domain=DOMAIN)
    model = classifier("mmd").fit(
        ROWS[train], MASKED[train], sample_domain=DOMAIN[train]
    )
    source, target = source_target_split(ROWS[test], sample_domain=DOMAIN[test])
    assert model.predict(source).shape == (len(source),)
    assert model.predict(target, sample_domain=np.full(len(target), -2)).shape


@pytest.mark.parametrize("make", [classifier, regressor])
def test_our_estimators_end_pipelines(make):
    y = MASKED if make is classifier else INK
    pipeline = make_da_pipeline(StandardScaler(), make("mmd"))
    pipeline.fit(ROWS, y, sample_domain=DOMAIN)
    scaled = StandardScaler().fit(ROWS)
    expected = make("mmd").fit(scaled.transform(ROWS), y, sample_domain=DOMAIN)
    found = pipeline.predict(NEW, sample_domain=np.full(len(NEW), -2))
    np.testing.assert_array_equal(found, expected.predict(scaled.transform(NEW)))


@pytest.mark.parametrize(
    "adapter", [CORALAdapter(), SubspaceAlignmentAdapter(n_components=4)]
)
def test_our_features_begin_pipelines(adapter):
    extractor = PretrainedFeatureExtractor(make_network, random_state=0)
    pipeline = make_da_pipeline(extractor, adapter, LogisticRegression())
    pipeline.fit(ROWS, MASKED, sample_domain=DOMAIN)
    domain = np.full(len(NEW), -2)
    features = PretrainedFeatureExtractor(make_network, random_state=0)
    plain = make_da_pipeline(adapter, LogisticRegression())
    plain.fit(features.fit_transform(ROWS), MASKED, sample_domain=DOMAIN)
    found = pipeline.predict(NEW, sample_domain=domain)
    expected = plain.predict(features.transform(NEW), sample_domain=domain)
    np.testing.assert_array_equal(found, expected)
    assert pipeline.score(NEW, Y_NEW, sample_domain=domain) > 0.3


def test_images_of_any_shape_pass():
    images = ROWS[::6].reshape(-1, 8, 8)
    settings = {"image_size": 32, "value_range": (-3, 4), "max_epochs": 1}
    search = GridSearchCV(
        classifier(MCC(), "efficientnet_lite0", freeze="all", **settings),
        {"method__weight": [0.0, 1.0]},
        cv=SourceTargetShuffleSplit(n_splits=1, test_size=0.3, random_state=0),
        scoring=PredictionEntropyScorer(),
        error_score="raise",
    )
    search.fit(images, MASKED[::6], sample_domain=DOMAIN[::6])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
