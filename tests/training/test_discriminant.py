import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from sktransfer.training import (
    are_strange,
    class_means,
    exchanged_classes,
    in_span,
    lda_predictions,
    predict_views,
    shrunk_covariance,
    whiten,
)


def problem(n=40, d=6, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    return rng.normal(size=(n, d)) + 2 * np.eye(max(d, n_classes))[y][:, :d] + 1, y


def test_shrunk_covariance_is_that_of_scikit_learn():
    for n, d in [(40, 6), (12, 30)]:
        X, _ = problem(n, d)
        expected, shrinkage = ledoit_wolf(X)
        F = in_span(X)
        found, share = shrunk_covariance(F, d)
        assert share == pytest.approx(shrinkage, rel=1e-10)
        distances = np.square(whiten(F, found)).sum(axis=1)
        centred = X - X.mean(axis=0)
        true = (centred * np.linalg.solve(expected, centred.T).T).sum(axis=1)
        np.testing.assert_allclose(distances, true, rtol=1e-8)


def test_in_span_keeps_distances():
    X, _ = problem(8, 30)
    F = in_span(X)
    assert F.shape == (8, 8)
    centred = X - X.mean(axis=0)
    np.testing.assert_allclose(F @ F.T, centred @ centred.T, atol=1e-10)


def test_class_means():
    X, y = problem()
    means, counts = class_means(X, y)
    np.testing.assert_allclose(means[1], X[y == 1].mean(axis=0))
    assert counts.tolist() == [14, 13, 13]


def test_lda_predictions_are_near_those_of_scikit_learn():
    X, y = problem(150)
    expected = []
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        model = LinearDiscriminantAnalysis(solver="lsqr").fit(X[rest], y[rest])
        expected.append(model.predict(X[[i]])[0])
    assert (lda_predictions(X, y) == expected).mean() > 0.95


def test_classes_without_variance_are_distinguished():
    features, codes = np.repeat(10.0 * np.eye(3), 5, axis=0), np.repeat(range(3), 5)
    np.testing.assert_array_equal(lda_predictions(features, codes), codes)


@pytest.mark.parametrize("n_per_class", [4, 30])
def test_exchanged_classes_are_found(n_per_class):
    rng = np.random.default_rng(0)
    y = np.tile(range(4), n_per_class)
    X = 0.5 * rng.normal(size=(len(y), 40))
    X[:, :2] += np.array([[-2, 0], [2, 0], [0, -2], [0, 2]])[y]
    mirrored = X * np.append(-1, np.ones(39))
    # Views of one class are taken for another one, whose views are not.
    some = np.where((y == 0)[:, None], mirrored, X)
    # Classes that cannot be told apart are not exchanged.
    noise = rng.normal(size=X.shape)
    pairs = (X, mirrored), (X, X), (X, some), (noise, -noise)
    found = [exchanged_classes(predict_views(*pair, y), y) for pair in pairs]
    assert found == [(0, 1), None, None, None]


@pytest.mark.parametrize(
    ("n_right", "n_as_right", "expected"),
    [(80, 30, True), (80, 59, True), (80, 61, False), (4, 2, False), (50, 90, False)],
)
def test_views_that_are_recognised_much_less_often_are_strange(
    n_right, n_as_right, expected
):
    codes = np.zeros(100, dtype=int)
    found = np.arange(100) >= np.array([[n_right], [n_as_right]])
    assert are_strange(found.astype(int), codes) == expected


def test_a_small_difference_is_none():
    codes, half = np.zeros(40, dtype=int), np.arange(40) % 2
    found = np.stack([half, 1 - half])  # each is right where the other is wrong
    found[0, :6] = 0
    assert not are_strange(found, codes)
