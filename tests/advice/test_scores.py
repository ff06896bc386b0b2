import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.covariance import ledoit_wolf

from sktransfer.advice import h_score, leep, logme


def problem(n=40, d=6, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    X = rng.normal(size=(n, d)) + 2 * np.eye(max(d, n_classes))[y][:, :d] + 1
    return X, y


def rotation(d, seed=1):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def evidence(X, y):
    """Maximise the density of y, with both variances free, by brute force."""
    gram, n = X @ X.T, len(y)

    def negative(log_ratio):
        covariance = np.eye(n) + gram * np.exp(log_ratio)
        noise = y @ np.linalg.solve(covariance, y) / n
        log_det = np.linalg.slogdet(covariance)[1] + n * np.log(noise)
        return (log_det + n + n * np.log(2 * np.pi)) / 2

    starts = [(a, a + 6) for a in range(-24, 18, 3)]
    return -min(minimize_scalar(negative, bounds=b).fun for b in starts) / n


@pytest.mark.parametrize(("n", "d"), [(40, 6), (12, 30)])
def test_logme_is_the_greatest_evidence(n, d):
    X, y = problem(n, d)
    expected = np.mean([evidence(X, (y == c).astype(float)) for c in range(3)])
    assert logme(X, y) == pytest.approx(expected, rel=1e-5)


def test_logme_of_regression_targets_is_the_greatest_evidence():
    X, _ = problem()
    Y = np.stack([X @ np.arange(6), np.sin(X[:, 0])], axis=1) * 100 + 7
    standard = (Y - Y.mean(axis=0)) / Y.std(axis=0)
    expected = np.mean([evidence(X, column) for column in standard.T[1:]])
    found = logme(X, Y[:, 1], regression=True)
    assert found == pytest.approx(expected, rel=1e-5)
    assert logme(X, Y, regression=True) > found  # the first column is linear


def fixed_point(X, y, n_iter=200):
    """Iterate as the authors do, for one target (You et al. 2021, Algorithm 1)."""
    n = len(X)
    U, s, _ = np.linalg.svd(X, full_matrices=False)
    sigma, x2 = s**2, (U.T @ y) ** 2
    left = y @ y - x2.sum()
    alpha = beta = 1.0
    for _ in range(n_iter):
        t = alpha / beta
        m2 = (sigma * x2 / (t + sigma) ** 2).sum()
        error = (x2 / (1 + sigma / t) ** 2).sum() + left
        gamma = (sigma / (sigma + t)).sum()
        alpha, beta = gamma / m2, (n - gamma) / error
    fit = beta * error + alpha * m2 + np.log(alpha + beta * sigma).sum()
    return (X.shape[1] * np.log(alpha) + n * np.log(beta / 2 / np.pi) - fit) / 2 / n


def test_logme_equals_the_fixed_point_of_the_authors():
    X, y = problem(200, 10)
    expected = np.mean([fixed_point(X, (y == c).astype(float)) for c in range(3)])
    assert logme(X, y) == pytest.approx(expected, rel=1e-5)


def test_h_score_is_that_of_the_formula():
    for n, d in [(40, 6), (12, 30)]:
        X, y = problem(n, d)
        covariance, shrinkage = ledoit_wolf(X)
        means = np.stack([X[y == c].mean(axis=0) for c in range(3)])[y]
        between = np.cov(means, rowvar=False, bias=True)
        expected = np.trace(np.linalg.solve(covariance, (1 - shrinkage) * between))
        assert h_score(X, y) == pytest.approx(expected, rel=1e-8)


def test_leep_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    theta = rng.dirichlet(np.ones(5), 30)
    y = rng.integers(0, 3, 30)
    joint = np.array([[theta[y == c, z].sum() for z in range(5)] for c in range(3)])
    given = joint / joint.sum(axis=0)
    terms = [np.log(sum(given[c] * t)) for c, t in zip(y, theta, strict=True)]
    assert leep(theta, y) == pytest.approx(np.mean(terms), rel=1e-12)


def test_leep_of_independent_labels_is_their_negative_entropy():
    y = np.array([0, 0, 0, 1])
    theta = np.full((4, 2), 0.5)
    assert leep(theta, y) == pytest.approx(0.75 * np.log(0.75) + 0.25 * np.log(0.25))


@pytest.mark.parametrize("score", [logme, h_score])
def test_scores_of_features_have_their_invariances(score):
    X, y = problem()
    expected = score(X, y)
    order = np.random.default_rng(2).permutation(len(y))
    assert score(X[order], y[order]) == pytest.approx(expected)
    assert score(X, np.array(list("cab"))[y]) == pytest.approx(expected)
    assert score(X @ rotation(6), y) == pytest.approx(expected)
    assert score(1000 * X, y) == pytest.approx(expected, rel=1e-5)
    shuffled = np.random.default_rng(3).permutation(y)
    assert score(X, shuffled) < expected


def test_logme_disregards_features_of_zeros():
    X, y = problem()
    wider = np.hstack([X, np.zeros((len(X), 3))])
    assert logme(wider, y) == pytest.approx(logme(X, y))


def test_h_score_disregards_the_mean():
    X, y = problem()
    assert h_score(X + 5, y) == pytest.approx(h_score(X, y))


def test_leep_has_its_invariances():
    rng = np.random.default_rng(0)
    theta, y = rng.dirichlet(np.ones(4), 20), np.arange(20) % 3
    expected, order = leep(theta, y), rng.permutation(20)
    assert leep(theta[order], y[order]) == pytest.approx(expected)
    assert leep(theta[:, ::-1], np.array(list("bca"))[y]) == pytest.approx(expected)


def test_logme_of_targets_that_the_features_hold_is_finite():
    X = np.random.default_rng(0).normal(size=(20, 4))
    assert np.isfinite(logme(X, X @ np.ones(4), regression=True))
    assert np.isfinite(logme(np.eye(10), np.arange(10) % 2))
    assert np.isfinite(logme(np.zeros((10, 3)), np.arange(10) % 2))
    assert h_score(np.zeros((10, 3)), np.arange(10) % 2) == 0


def test_one_class_raises():
    text = "`y` must hold at least two classes to score features by. Got one class: 'a'"
    for score in (logme, h_score):
        with pytest.raises(ValueError, match=text):
            score(np.eye(3), ["a"] * 3)


def test_constant_regression_targets_raise():
    text = "`y` must vary in every column to score features by. Got column 1 with one "
    with pytest.raises(ValueError, match=text):
        logme(np.eye(3), [[1, 2], [2, 2], [3, 2]], regression=True)


def test_rows_that_are_not_probabilities_raise():
    text = "`probabilities` must hold rows of probabilities that sum to one. Got values"
    for wrong in ([[1, 1], [0, 1]], [[-1, 2], [0, 1]]):
        with pytest.raises(ValueError, match=text):
            leep(wrong, [0, 1])


def test_lengths_that_differ_raise():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        logme(np.eye(3), [0, 1])
