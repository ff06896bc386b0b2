import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge, RidgeCV

from sktransfer.training import _ridge, fit_ridge, search_alpha


def scores_of(head, X):
    with torch.no_grad():
        return head(torch.from_numpy(X)).numpy()


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("n_samples", [8, 100])
def test_ridge_agrees_with_scikit_learn(diabetes, n_samples, n_outputs):
    X, Y = diabetes[0][:n_samples], diabetes[1][:n_samples, :n_outputs]
    head, alpha, loss = fit_ridge(torch.from_numpy(X), Y, alpha=0.5)
    reference = Ridge(alpha=0.5, solver="svd").fit(X.astype(np.float64), Y)
    expected = reference.predict(X).reshape(Y.shape)
    np.testing.assert_allclose(scores_of(head, X), expected, rtol=1e-5)
    assert head.weight.shape == (n_outputs, 10) and head.weight.dtype == torch.float32
    assert alpha == 0.5 and isinstance(alpha, float)
    assert loss == pytest.approx(np.square(Y - expected).mean() / 2, rel=1e-5)


def test_ridge_auto_is_the_penalty_that_is_found(diabetes):
    X, Y = torch.from_numpy(diabetes[0]), diabetes[1]
    weight = np.linspace(0, 2, len(Y))
    head, alpha, loss = fit_ridge(X, Y, sample_weight=weight)
    assert alpha == search_alpha(X, Y, sample_weight=weight)
    twin, _, twin_loss = fit_ridge(X, Y, alpha=alpha, sample_weight=weight)
    assert torch.equal(head.weight, twin.weight) and loss == twin_loss


@pytest.mark.parametrize("n_samples", [8, 100])
def test_ridge_of_weights(diabetes, n_samples):
    X, Y = diabetes[0][:n_samples], diabetes[1][:n_samples]
    weight = np.random.RandomState(0).randint(0, 3, n_samples).astype(float)
    there, n = weight > 0, weight.astype(int)
    head, alpha, loss = fit_ridge(torch.from_numpy(X), Y, sample_weight=weight)
    twins = [
        fit_ridge(torch.from_numpy(X[there]), Y[there], sample_weight=weight[there]),
        fit_ridge(torch.from_numpy(X.repeat(n, axis=0)), Y.repeat(n, axis=0)),
    ]
    for twin, twin_alpha, twin_loss in twins:
        np.testing.assert_allclose(scores_of(head, X), scores_of(twin, X), rtol=1e-4)
        assert twin_alpha == pytest.approx(alpha, rel=1e-5)
        assert twin_loss == pytest.approx(loss, rel=1e-4)


@pytest.fixture
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    Y = np.stack([y, y[::-1]], axis=1)[:120] / 100
    return X[:120].astype(np.float32), Y


def power(X, weight=None):
    """Mean squared norm of centred features."""
    X = X.astype(np.float64)
    centred = X - np.average(X, axis=0, weights=weight)
    return np.average(np.square(centred).sum(axis=1), weights=weight)


@pytest.mark.parametrize("n_samples", [20, 120])
def test_alpha_is_that_of_leave_one_out(diabetes, n_samples):
    X, Y = diabetes[0][:n_samples], diabetes[1][:n_samples]
    alphas = _ridge._ALPHAS * power(X)
    reference = RidgeCV(alphas).fit(X.astype(np.float64), Y)
    chosen = search_alpha(torch.from_numpy(X), Y)
    assert chosen == pytest.approx(reference.alpha_, rel=1e-5)


def test_error_of_groups_that_are_left_out(diabetes):
    X, Y = diabetes[0][:30].astype(np.float64), diabetes[1][:30]
    groups = np.repeat(np.arange(12), [1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4])
    weight = np.random.RandomState(0).uniform(0.5, 2, 30)
    expected = 0.0
    for group in range(12):
        out = groups == group
        model = Ridge(alpha=0.1).fit(X[~out], Y[~out], sample_weight=weight[~out])
        errors = np.square(Y[out] - model.predict(X[out]))
        expected += (weight[out] @ errors).sum()
    share = weight / weight.sum()
    root = np.sqrt(weight)[:, None]
    A, eigenvalues = _ridge._left_factor(root * (X - share @ X))
    blocks = _ridge._blocks(groups)
    found = _ridge._left_out_error(
        A, eigenvalues, root * (Y - share @ Y), np.sqrt(share), blocks, 0.1
    )
    assert found == pytest.approx(expected, rel=1e-8)


def test_alpha_of_weights(diabetes):
    X, Y = diabetes
    weight = np.random.RandomState(0).randint(0, 3, len(Y)).astype(float)
    there, n = weight > 0, weight.astype(int)
    alpha = search_alpha(torch.from_numpy(X), Y, sample_weight=weight)
    present = torch.from_numpy(X[there]), Y[there]
    assert search_alpha(*present, sample_weight=weight[there]) == alpha
    repeated = search_alpha(torch.from_numpy(X.repeat(n, axis=0)), Y.repeat(n, axis=0))
    assert repeated == pytest.approx(alpha, rel=1e-5)


def test_alpha_of_groups(diabetes):
    X, Y = diabetes
    views = torch.from_numpy(np.concatenate([X, X + np.float32(1e-4)]))
    groups, weight = np.tile(np.arange(120), 2), np.full(240, 0.5)
    alpha = search_alpha(views, np.tile(Y, (2, 1)), sample_weight=weight, groups=groups)
    assert alpha == pytest.approx(search_alpha(torch.from_numpy(X), Y), rel=1e-3)
    one_group = np.zeros(240, dtype=int)
    assert search_alpha(views, np.tile(Y, (2, 1)), groups=one_group) == 1.0


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_alpha_follows_the_scale_of_features(diabetes, factor):
    X, Y = diabetes
    alpha = search_alpha(torch.from_numpy(X), Y)
    scaled = search_alpha(torch.from_numpy(X * np.float32(factor)), Y)
    assert scaled == pytest.approx(alpha * factor**2, rel=1e-4)


def test_alpha_is_small_without_noise_and_large_with_nothing_else():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(80, 10)).astype(np.float32)
    exact = X.astype(np.float64) @ rng.normal(size=(10, 2))
    noise = rng.normal(size=(80, 2))
    assert search_alpha(torch.from_numpy(X), exact) / power(X) < 1e-5
    assert search_alpha(torch.from_numpy(X), noise) / power(X) > 10


def test_ridge_leaves_the_global_generators_alone(diabetes):
    state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    fit_ridge(torch.from_numpy(diabetes[0]), diabetes[1])
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_equal_features_get_a_penalty_of_one():
    X, y = torch.full((10, 3), 0.1), np.arange(10.0)[:, None]
    assert search_alpha(X, y) == 1.0
