import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import (
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedFeatureExtractor,
)
from sktransfer.inspection import StageProbeDisplay


def test_scores_are_those_of_a_probe_at_each_stage(network, digits):
    X, y = digits
    extractor = PretrainedFeatureExtractor(network, stage=2)
    display = StageProbeDisplay.from_estimator(extractor, X, y, cv=3)
    assert display.stages == [str(i) for i in range(9)]
    assert not hasattr(extractor, "model_")
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    for stage in (1, 9):
        features = extractor.set_params(stage=stage).fit_transform(X)
        expected = cross_val_score(probe, features, y, cv=3)
        np.testing.assert_allclose(display.scores[stage - 1], expected)
    assert 0 < display.chance < 0.2
    assert (display.score_name, display.boundary) == ("accuracy", None)
    drawn = display.line_.lines[0].get_ydata()
    np.testing.assert_array_equal(drawn, display.means)


def test_trained_stages_are_probed_and_marked(network, digits):
    X, y = digits
    model = FineTunedClassifier(network, freeze=7, max_epochs=1, random_state=0)
    model.fit(X[:60], y[:60])
    display = StageProbeDisplay.from_estimator(model, X[60:], y[60:], cv=2)
    assert display.boundary == "6"
    plain = StageProbeDisplay.from_estimator(
        PretrainedFeatureExtractor(network), X[60:], y[60:], cv=2
    )
    np.testing.assert_array_equal(display.scores[:7], plain.scores[:7])
    features = model.transform(X[60:])
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    expected = cross_val_score(probe, features, y[60:], cv=2)
    # The display rounds at the end of every stage, so a sample may change sides.
    np.testing.assert_allclose(display.scores[8], expected, atol=1.01 / 30)
    assert display.ax_.lines[-1].get_xdata() == [6.5, 6.5]


def test_regression_with_a_probe_of_ones_own(extractor, digits):
    X, y = digits
    display = StageProbeDisplay.from_estimator(
        make_pipeline(extractor),
        X[:40],
        y[:40] + 0.5,
        cv=2,
        probe=KNeighborsRegressor(3),
        scoring="neg_mean_absolute_error",
    )
    assert display.score_name == "neg mean absolute error"
    assert display.means.max() < 0
    again = StageProbeDisplay.from_estimator(extractor, X[:40], y[:40] + 0.5, cv=2)
    assert again.score_name == "R²"
    assert again.chance <= 0


def test_integers_are_what_the_estimator_predicts(network, extractor, digits):
    X, y = digits[0][:40], digits[1][:40]
    regressor = FineTunedRegressor(network, freeze="all").fit(X, y)
    display = StageProbeDisplay.from_estimator(regressor, X, y, cv=2)
    assert display.score_name == "R²"
    continuous = StageProbeDisplay.from_estimator(extractor, X, y + 0.5, cv=2)
    np.testing.assert_allclose(display.scores, continuous.scores, atol=1e-3)
    classes = StageProbeDisplay.from_estimator(extractor, X, y, cv=2)
    assert classes.score_name == "accuracy"


def test_multilabel_targets_have_a_probe_per_label(extractor, digits):
    X, y = digits[0][:40], digits[1][:40]
    labels = np.stack([y % 2, y > 4], axis=1).astype(int)
    display = StageProbeDisplay.from_estimator(extractor, X, labels, cv=2)
    assert display.score_name == "accuracy"
    assert display.means[0] > display.chance


def test_invalid_arguments_raise(network, digits):
    with pytest.raises(ValueError, match=r"the shape \(2, n_folds\), .* Got \(1, 2\)"):
        StageProbeDisplay(["a", "b"], [[1, 2]])
    with pytest.raises(NotFittedError):
        StageProbeDisplay.from_estimator(FineTunedClassifier(network), *digits)
