import re

import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline

from sktransfer import PretrainedFeatureExtractor
from tests.test_classifier import ROWS, Y, make_network, tiny


def captions(estimator):
    return re.findall(r'<div class="caption">(.*?)</div>', estimator._repr_html_())


@pytest.mark.parametrize(
    ("freeze", "expected"),
    [
        ("none", "0 of 2 stages frozen"),
        (1, "1 of 2 stages frozen (up to stem)"),
        ("all", "2 of 2 stages frozen (up to features)"),
    ],
)
def test_depth_is_shown_when_it_is_known(freeze, expected):
    model = tiny(freeze=freeze)
    assert captions(model) == []
    assert "FineTunedClassifier" in model._repr_html_()
    model.fit(ROWS, Y)
    assert captions(model) == [expected]
    assert "max_epochs" in model._repr_html_()
    assert captions(make_pipeline(model)) == [expected]


def test_stages_of_features_are_shown():
    extractor = PretrainedFeatureExtractor(make_network, stage=[0, 1])
    model = make_pipeline(extractor, GaussianNB())
    assert captions(model) == []
    assert captions(model.fit(ROWS, Y)) == ["Sequential up to stem, 2"]


def test_depth_of_an_estimator_over_another():
    first = tiny(freeze=1).fit(ROWS, Y)
    model = tiny(backbone=FrozenEstimator(first), freeze="all")
    assert captions(model) == ["1 of 2 stages frozen (up to stem)"]
    assert captions(model.fit(ROWS, Y)) == ["2 of 2 stages frozen (up to features)"]
