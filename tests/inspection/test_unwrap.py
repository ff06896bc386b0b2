import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.adaptation import DomainAdaptedClassifier
from sktransfer.inspection import explain
from sktransfer.inspection._unwrap import fitted_reader, read


def test_reader_is_found_inside(probe, extractor):
    pipeline = make_pipeline(FrozenEstimator(extractor), LogisticRegression())
    assert fitted_reader(pipeline) is extractor
    outer = FixedThresholdClassifier(probe)
    outer.estimator_ = make_pipeline(probe)
    assert fitted_reader(outer) is probe


def test_explanations_are_those_of_what_is_inside(network, digits):
    X, y = digits[0][:40], digits[1][:40] > 4
    features = PretrainedFeatureExtractor(network, stage="2")
    pipeline = make_pipeline(features, StandardScaler(), LogisticRegression()).fit(X, y)
    frozen = FrozenEstimator(pipeline)
    (expected,) = explain(pipeline, X[:1])
    for outer in (
        frozen,
        FixedThresholdClassifier(frozen).fit(X, y),
        FrozenEstimator(FixedThresholdClassifier(frozen).fit(X, y)),
        make_pipeline(FrozenEstimator(pipeline[:2]), pipeline[2]),
    ):
        (found,) = explain(outer, X[:1])
        np.testing.assert_array_equal(found.values, expected.values)
        assert (found.target, found.score) == (expected.target, expected.score)


def test_reader_of_an_adapted_estimator_reads(network, digits):
    X, y = digits[0][:40], digits[1][:40]
    inner = FineTunedClassifier(network, freeze="all")
    adapted = DomainAdaptedClassifier(inner, method="centroids", style=None)
    domain = np.repeat([1, -1], 20)
    adapted.fit(X, np.where(domain > 0, y, -1), sample_domain=domain)
    assert fitted_reader(adapted) is adapted.estimator_
    assert len(read(adapted, X[:3])) == 3
    found = explain(adapted, X[:2])
    assert [e.target for e in found] == adapted.predict(X[:2]).tolist()


def test_read_has_the_values_of_the_fit(extractor, digits):
    samples = read(make_pipeline(extractor), digits[0][:3])
    assert len(samples) == 3
    assert samples.value_range == extractor.value_range_


def test_other_estimators_raise(digits):
    with pytest.raises(NotFittedError):
        fitted_reader(make_pipeline(PretrainedFeatureExtractor()))
    X, y = digits
    other = LogisticRegression().fit(X.reshape(len(X), -1), y)
    text = r"must be a fitted estimator of sktransfer, .* Got Pipeline, in which Logis"
    with pytest.raises(TypeError, match=text):
        fitted_reader(make_pipeline(other))
