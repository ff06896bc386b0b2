import sys
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.decomposition import PCA, FastICA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline

from sktransfer.inspection import EmbeddingDisplay

POINTS = np.array([[0.0, 0], [1, 0], [0, 1], [4, 4]])


def test_points_of_classes_and_domains():
    display = EmbeddingDisplay(
        POINTS, labels=[0, 1, 1, 0], domains=["s", "s", "t", "t"], is_error=[0, 0, 1, 0]
    ).plot()
    drawn = [points.get_offsets().tolist() for points in display.points_]
    assert drawn == [[[0, 0]], [[4, 4]], [[1, 0]], [[0, 1]]]
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["0", "1", "domain s", "domain t", "error"]
    (crosses,) = (c for c in display.ax_.collections if c.get_label() == "error")
    assert crosses.get_offsets().tolist() == [[0, 1]]
    colors = [points.get_facecolor()[0].tolist() for points in display.points_]
    assert colors[0] == colors[1] != colors[2]


def test_values_are_a_colour_scale():
    display = EmbeddingDisplay(POINTS, labels=[0.5, 1.5, 2.5, 3.5]).plot()
    assert display.points_[0].get_array().tolist() == [0.5, 1.5, 2.5, 3.5]
    assert len(display.figure_.axes) == 2


def test_many_classes_are_named_where_they_are():
    points = np.random.default_rng(0).normal(size=(32, 2))
    display = EmbeddingDisplay(points, labels=np.arange(32) % 16).plot()
    assert display.ax_.get_legend() is None
    assert [t.get_text() for t in display.ax_.texts] == [str(i) for i in range(16)]
    np.testing.assert_allclose(display.ax_.texts[3].xy, points[[3, 19]].mean(axis=0))


def test_from_estimator_projects_features_and_marks_errors(probe, digits):
    X, y = digits
    display = EmbeddingDisplay.from_estimator(probe, X, y, n_thumbnails=4)
    pca = PCA(2).fit(probe.transform(X))
    np.testing.assert_allclose(display.embedding, pca.transform(probe.transform(X)))
    assert f"({pca.explained_variance_ratio_[0]:.0%} of" in display.ax_.get_xlabel()
    np.testing.assert_array_equal(display.is_error, probe.predict(X) != y)
    assert len(display.pictures) == len(display.thumbnails_) == 4
    i = [*display.pictures][-1]
    np.testing.assert_array_equal(display.pictures[i][..., 0], np.rint(X[i] * 255))
    assert display.thumbnails_[-1].xy == tuple(display.embedding[i])


def test_features_inside_a_meta_estimator(extractor, digits):
    X, y = digits[0][:40], digits[1][:40] > 4
    pipeline = make_pipeline(FrozenEstimator(extractor), LogisticRegression())
    pipeline.fit(X, y)
    model = FixedThresholdClassifier(FrozenEstimator(pipeline), threshold=0.9)
    model.fit(X, y)
    display = EmbeddingDisplay.from_estimator(model, X, y, n_thumbnails=2)
    inside = EmbeddingDisplay.from_estimator(extractor, X)
    np.testing.assert_array_equal(display.embedding, inside.embedding)
    np.testing.assert_array_equal(display.is_error, model.predict(X) != y)
    assert len(display.pictures) == 2


def test_one_sample_raises(extractor, digits):
    text = r"needs at least 2 samples in X .* Got features of the shape \(1, "
    with pytest.raises(ValueError, match=text):
        EmbeddingDisplay.from_estimator(extractor, digits[0][:1])


def test_thumbnails_are_far_apart(extractor, digits):
    X = digits[0][:20]
    display = EmbeddingDisplay.from_estimator(extractor, X, n_thumbnails=2)
    first, second = display.pictures
    distances = np.linalg.norm(display.embedding - display.embedding[first], axis=1)
    assert second == distances.argmax()
    assert display.is_error is None


def test_other_projections(extractor, digits, monkeypatch):
    X = digits[0][:20]
    display = EmbeddingDisplay.from_estimator(extractor, X, projection=FastICA(2))
    assert display.axis_names == ("FastICA 1", "FastICA 2")
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match=r"needs umap\. Install .*sktransfer\[umap\]"):
        EmbeddingDisplay.from_estimator(extractor, X, projection="umap")
    made = SimpleNamespace(UMAP=lambda random_state: PCA(2, random_state=random_state))
    monkeypatch.setitem(sys.modules, "umap", made)
    display = EmbeddingDisplay.from_estimator(extractor, X, projection="umap")
    assert display.embedding.shape == (20, 2)
    with pytest.raises(ValueError, match=r"one of \['pca', 'umap'\] or .* Got 'tsne'"):
        EmbeddingDisplay.from_estimator(extractor, X, projection="tsne")


def test_invalid_arrays_raise():
    with pytest.raises(ValueError, match=r"`embedding` must .* Got \(4, 1\)"):
        EmbeddingDisplay(POINTS[:, :1])
    with pytest.raises(ValueError, match=r"`domains` must have the shape \(4,\)"):
        EmbeddingDisplay(POINTS, domains=[1])
