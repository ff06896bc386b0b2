import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline

from sktransfer import FineTunedRegressor, PretrainedFeatureExtractor
from sktransfer.inspection import EmbeddingDisplay, ErrorGalleryDisplay

PROBABILITIES = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
CLASSES = ["bad", "good"]
TRUE = ["good", "good", "bad", "unseen"]


def titles(display):
    return [ax.get_title(loc="left") for ax in display.axes_.flat]


def test_most_confident_errors_come_first():
    texts = ["a", "b", "c", "d"]
    display = ErrorGalleryDisplay.from_predictions(
        texts, TRUE, PROBABILITIES, classes=CLASSES
    )
    assert display.indices.tolist() == [0, 2, 3]
    assert display.pictures == ["a", "c", "d"]
    assert display.y_pred.tolist() == ["bad", "good", "bad"]
    assert display.y_true.tolist() == ["good", "bad", "unseen"]
    assert display.p_pred.tolist() == [0.9, 0.8, 0.7]
    assert display.p_true.tolist() == [0.1, 0.2, 0]
    assert titles(display)[0] == "bad 90%\ntrue: good 10%"
    assert display.axes_.flat[0].texts[0].get_text() == "a"
    assert display.axes_.shape == (2, 2)
    title = display.figure_.get_suptitle()
    assert title == "Most confident of 3 errors in 4 samples"


def test_errors_of_images_from_files(tmp_path):
    paths = [str(tmp_path / f"{color}.png") for color in ("red", "green", "blue")]
    for path in paths:
        Image.new("RGB", (6, 4), path[len(str(tmp_path)) + 1 : -4]).save(path)
    display = ErrorGalleryDisplay.from_predictions(
        paths, TRUE[:3], PROBABILITIES[:3], classes=CLASSES, n=1
    )
    assert display.pictures[0].shape == (4, 6, 3)
    assert display.pictures[0][0, 0].tolist() == [255, 0, 0]
    assert display.n_errors == 2


def test_from_estimator_of_a_pipeline(network, digits):
    X, y = digits
    model = make_pipeline(PretrainedFeatureExtractor(network), LogisticRegression())
    model.fit(X[:60], y[:60])
    display = ErrorGalleryDisplay.from_estimator(model, X, y, n=3)
    probabilities = model.predict_proba(X)
    wrong = np.flatnonzero(model.predict(X) != y)
    assert {*display.indices} <= {*wrong}
    assert display.n_errors == len(wrong) > 3
    most = np.sort(probabilities[wrong].max(axis=1))[::-1][:3]
    np.testing.assert_allclose(display.p_pred, most)
    i = display.indices[0]
    np.testing.assert_array_equal(display.pictures[0][..., 0], np.rint(X[i] * 255))
    assert sum(ax.axison for ax in display.axes_.flat) == 3


def test_errors_are_those_of_a_threshold(network, digits):
    X, y = digits[0], digits[1] > 4
    features = PretrainedFeatureExtractor(network, stage="2")
    pipeline = make_pipeline(features, LogisticRegression())
    model = FixedThresholdClassifier(
        pipeline, threshold=0.95, response_method="predict_proba"
    )
    model.fit(X[:60], y[:60])
    display = ErrorGalleryDisplay.from_estimator(model, X, y, n=len(X))
    probabilities, y_pred = model.predict_proba(X), model.predict(X)
    wrong = np.flatnonzero(y_pred != y)
    assert len(wrong) > (probabilities.argmax(axis=1) != y).sum()
    assert sorted(display.indices) == wrong.tolist()
    assert display.n_errors == len(wrong)
    chosen = display.indices
    assert display.y_pred.tolist() == y_pred[chosen].tolist()
    rows, columns = probabilities[chosen], y_pred[chosen].astype(int)
    expected = rows[np.arange(len(rows)), columns]
    np.testing.assert_array_equal(display.p_pred, expected)
    assert (np.diff(expected) <= 0).all()
    assert expected.min() < 0.5


def test_without_errors(probe, digits):
    X, y = digits[0][:3], probe.predict(digits[0][:3])
    display = ErrorGalleryDisplay.from_estimator(probe, X, y)
    assert len(display.pictures) == display.n_errors == 0
    assert display.figure_.get_suptitle() == "No errors in 3 samples"


def test_given_axes_and_long_names():
    _, axes = plt.subplots(1, 2)
    display = ErrorGalleryDisplay(["a"], ["x" * 20], ["y"], [0.1], [0.9])
    assert titles(display.plot(axes)) == [f"y 90%\ntrue: {'x' * 13}… 10%", ""]
    assert display.figure_ is axes[0].figure
    with pytest.raises(ValueError, match="one Axes per sample, 3. Got 1."):
        ErrorGalleryDisplay(*[["a"] * 3] * 3, *[[0.5] * 3] * 2).plot(axes[:1])


def test_other_targets_raise(probe, digits):
    X, y = digits[0][:4], digits[1][:4]
    with pytest.raises(ValueError, match=r"Got \(4, 1\) and \(4, 10\); for multilabel"):
        ErrorGalleryDisplay.from_estimator(probe, X, y[:, None])
    model = FineTunedRegressor(probe, freeze="all").fit(X, y * 1.0)
    with pytest.raises(TypeError, match="Got a FineTunedRegressor, whose predictions"):
        ErrorGalleryDisplay.from_estimator(model, X, y)
    assert EmbeddingDisplay.from_estimator(model, X, y).is_error is None
