import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import normalize

from sktransfer.advice import knn_score, lda_score, leep, n_leep
from sktransfer.training import in_span, lda_predictions, shrunk_covariance


def problem(n=60, d=6, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    return rng.normal(size=(n, d)) + np.eye(max(d, n_classes))[y][:, :d] + 1, y


def rotation(d, seed=1):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def left_out(X, y, shrinkage, variance):
    """Predict each sample by a discriminant that is fitted to all others."""
    predicted, n, classes = [], len(y), np.unique(y)
    for i in range(n):
        rest = np.arange(n) != i
        means = np.stack([X[rest & (y == c)].mean(axis=0) for c in classes])
        R = X[rest] - means[y[rest]]
        S = (1 - shrinkage) * R.T @ R / n + shrinkage * variance * np.eye(X.shape[1])
        away = X[i] - means
        distance = (away * np.linalg.solve(S, away.T).T).sum(axis=1)
        counts = np.array([(rest & (y == c)).sum() for c in classes])
        predicted.append(np.argmax(np.log(counts) - distance / 2))
    return np.array(predicted)


@pytest.mark.parametrize(("n", "d"), [(60, 6), (21, 40)])
def test_lda_score_leaves_each_sample_out(n, d):
    X, y = problem(n, d)
    y[:2] = 0  # classes of unequal size
    R = X - np.stack([X[y == c].mean(axis=0) for c in range(3)])[y]
    _, shrinkage = shrunk_covariance(in_span(R + 0), d)
    variance = np.square(R).sum() / n / d
    expected = left_out(X, y, shrinkage, variance)
    np.testing.assert_array_equal(lda_predictions(X, y), expected)
    assert lda_score(X, y) == pytest.approx((expected == y).mean())


def test_lda_score_of_the_only_sample_of_a_class():
    X = np.vstack([load_iris().data, [[100, 0, 0, 0]]])
    y = np.append(load_iris().target, 3)
    assert lda_score(X, y) <= 150 / 151
    assert lda_predictions(X, y)[-1] != 3


def test_knn_score_is_that_of_scikit_learn():
    X, y = problem()
    right = []
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        model = KNeighborsClassifier(1).fit(normalize(X[rest]), y[rest])
        right.append(model.predict(normalize(X[[i]]))[0] == y[i])
    assert knn_score(X, y, n_neighbors=1) == np.mean(right)


def test_knn_score_of_regression_targets_is_that_of_scikit_learn():
    X, _ = problem()
    target = X[:, 0] * 10 + 3
    predicted = []
    for i in range(len(target)):
        rest = np.arange(len(target)) != i
        model = KNeighborsRegressor(5).fit(normalize(X[rest]), target[rest])
        predicted.append(model.predict(normalize(X[[i]]))[0])
    expected = 1 - np.square(target - predicted).mean() / target.var()
    assert knn_score(X, target, regression=True) == pytest.approx(expected)


def test_knn_score_breaks_ties_by_similarity():
    angles = np.deg2rad([0, 5, 50, 60])
    X = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert knn_score(X, ["a", "a", "b", "b"], n_neighbors=2) == 1


def test_knn_score_of_few_samples():
    assert knn_score([[1, 0], [1, 0.1]], [0, 1]) == 0


def test_n_leep_is_leep_of_a_mixture():
    X, y = problem()
    F = PCA(0.8, svd_solver="full").fit_transform(X)
    F /= np.sqrt(np.square(F).mean())
    mixture = GaussianMixture(15, reg_covar=1e-3, random_state=0).fit(F)
    expected = leep(mixture.predict_proba(F), y)
    assert n_leep(X, y) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("score", [lda_score, knn_score, n_leep])
def test_probes_have_their_invariances(score):
    X, y = problem()
    expected = score(X, y)
    assert score(X, np.array(list("abc"))[y]) == pytest.approx(expected)
    assert score(X @ rotation(6), y) == pytest.approx(expected, abs=0.02)
    assert score(1000 * X, y) == pytest.approx(expected, abs=1e-6)
    shuffled = np.random.default_rng(3).permutation(y)
    assert score(X, shuffled) < expected


@pytest.mark.parametrize("score", [lda_score, knn_score])
def test_probes_disregard_the_order_of_samples_and_names(score):
    X, y = problem()
    order = np.random.default_rng(2).permutation(len(y))
    assert score(X[order], y[order]) == score(X, y)
    assert score(X, np.array(list("cab"))[y]) == score(X, y)


def test_probes_of_features_that_are_all_equal():
    y = np.arange(12) % 3
    assert 0 <= lda_score(np.zeros((12, 4)), y) <= 1
    assert 0 <= knn_score(np.zeros((12, 4)), y) <= 1
    assert n_leep(np.zeros((12, 4)), y) <= 0


def test_one_class_raises():
    for score in (lda_score, knn_score, n_leep):
        with pytest.raises(ValueError, match="at least two classes .* one class: 0"):
            score(np.eye(3), [0, 0, 0])
