import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sktransfer import (
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedFeatureExtractor,
)
from sktransfer.inspection import LearningCurveDisplay
from sktransfer.inspection._learning_curve import _in_proportion


@pytest.fixture
def display():
    scores = {"network": [[0.6, 0.8], [0.9, 0.9]], "raw": [[0.5, 0.5], [0.6, 0.8]]}
    return LearningCurveDisplay([10, 40], scores, score_name="accuracy")


def test_plot_has_means_and_spreads_by_size(display):
    display.plot()
    means = [line.lines[0].get_xydata().tolist() for line in display.lines_]
    np.testing.assert_allclose(means, [[[10, 0.7], [40, 0.9]], [[10, 0.5], [40, 0.7]]])
    (segments,) = display.lines_[0].lines[2]
    first = segments.get_segments()[0]
    np.testing.assert_allclose(first[:, 1], [0.6, 0.8])
    assert display.ax_.get_xscale() == "log"
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["10", "40"]
    assert display.ax_.get_ylabel() == "accuracy"
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == ["network", "raw"]
    assert display.table.loc[40, "raw"] == 0.7


def test_plot_draws_in_given_axes(display):
    _, ax = plt.subplots()
    assert display.plot(ax).ax_ is ax
    assert display.figure_ is ax.figure


def test_scores_of_another_shape_raise():
    with pytest.raises(
        ValueError, match=r"shape \(2, n_folds\).* Got \(1, 3\) for 'a'"
    ):
        LearningCurveDisplay([1, 2], {"a": [[1, 2, 3]]})


def test_from_estimator_compares_with_pixels_and_own_baselines(probe, digits):
    X, y = digits
    pixels = X[:60].reshape(60, -1)
    own = make_pipeline(
        PretrainedFeatureExtractor(probe.backbone), LogisticRegression()
    )
    display = LearningCurveDisplay.from_estimator(
        probe,
        X[:60],
        y[:60],
        baselines=["raw", ("features", own)],
        train_sizes=[10, 30],
        cv=2,
        random_state=0,
        name="probe",
    )
    assert [*display.scores] == ["probe", "raw pixels", "features"]
    assert display.train_sizes.tolist() == [10, 30]
    assert display.scores["raw pixels"].shape == (2, 2)
    assert display.table.loc[30, "raw pixels"] > 0.5  # of ten classes
    assert display.score_name == "accuracy"
    again = LearningCurveDisplay.from_estimator(
        LogisticRegression(), pixels, y[:60], baselines=[], train_sizes=[10], cv=2
    )
    assert [*again.scores] == ["LogisticRegression"]


def test_from_estimator_draws_regression(network, digits):
    X, y = digits[0][:40], np.linspace(0, 1, 40)
    display = LearningCurveDisplay.from_estimator(
        FineTunedRegressor(network, freeze="all"), X, y, train_sizes=[0.5], cv=2
    )
    assert [*display.scores] == ["FineTunedRegressor", "raw pixels"]
    assert display.score_name == "R²"
    assert display.train_sizes.tolist() == [10]


def test_regressor_of_integers_is_compared_with_a_regression(network, digits):
    X, y = digits[0][:40], digits[1][:40]
    whole, parts = (
        LearningCurveDisplay.from_estimator(
            FineTunedRegressor(network, freeze="all"),
            X,
            targets,
            train_sizes=[20],
            cv=2,
            random_state=0,
        )
        for targets in (y, y + 0.5)  # the same folds and samples for both
    )
    assert whole.score_name == "R²"
    assert [*whole.scores] == ["FineTunedRegressor", "raw pixels"]
    for name, scores in parts.scores.items():
        np.testing.assert_allclose(whole.scores[name], scores, atol=1e-3)


def test_from_estimator_draws_multilabel_targets(network, digits):
    X, y = digits[0][:40], digits[1][:40]
    labels = np.stack([y % 2, y > 4], axis=1).astype(int)
    display = LearningCurveDisplay.from_estimator(
        FineTunedClassifier(network, freeze="all"),
        X,
        labels,
        train_sizes=[20],
        cv=2,
        random_state=0,
    )
    assert [*display.scores] == ["FineTunedClassifier", "raw pixels"]
    assert display.score_name == "accuracy"
    assert display.table.loc[20, "raw pixels"] > 0.3  # of four combinations


@pytest.mark.parametrize(
    ("name", "baselines", "twice"),
    [
        (None, [("FineTunedClassifier", LogisticRegression())], "FineTunedClassifier"),
        ("raw pixels", "auto", "raw pixels"),
        ("a", ["raw", "raw"], "raw pixels"),
    ],
)
def test_lines_of_the_same_name_raise(network, digits, name, baselines, twice):
    with pytest.raises(ValueError, match=f"Got '{twice}' more than once"):
        LearningCurveDisplay.from_estimator(
            FineTunedClassifier(network), *digits, baselines=baselines, name=name
        )


def test_errors_of_fits_are_raised(digits):
    X, y = digits
    with pytest.raises(ValueError, match="'no-such'"):
        LearningCurveDisplay.from_estimator(
            FineTunedRegressor("no-such"), X, y, baselines=[], cv=2
        )


def test_beginnings_hold_each_label_in_proportion():
    labels = np.repeat([0, 1, 2], [20, 10, 4])
    order = _in_proportion(np.arange(34), labels, np.random.RandomState(0))
    assert sorted(order) == [*range(34)]
    assert {*labels[order[:3]]} == {0, 1, 2}
    np.testing.assert_allclose(np.bincount(labels[order[:17]]), [10, 5, 2], atol=1)
    other = _in_proportion(np.arange(34), labels, np.random.RandomState(1))
    assert other.tolist() != order.tolist()
