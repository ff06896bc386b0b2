import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV

from sktransfer.training import _probe_search
from sktransfer.training._probe import fit_multilabel_probe, fit_probe
from sktransfer.training._probe_search import (
    search_alpha,
    search_C,
    search_multilabel_C,
    solve_logistic,
)


@pytest.fixture(params=[2, 5], ids=["binary", "multiclass"])
def digits(request):
    X, y = load_digits(n_class=request.param, return_X_y=True)
    return (X[:150] / 16).astype(np.float32), y[:150]


@pytest.fixture
def noisy():
    """Three classes; 20 of 500 features tell them apart a little."""
    rng = np.random.RandomState(0)
    y = rng.randint(3, size=600)
    X = rng.normal(size=(600, 500))
    X[:, :20] += rng.normal(scale=0.3, size=(3, 20))[y]
    return X.astype(np.float32), y


@pytest.fixture
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    Y = np.stack([y, y[::-1]], axis=1)[:120] / 100
    return X[:120].astype(np.float32), Y


@pytest.fixture
def labels():
    """Features and three outputs, of which the last is rare."""
    rng = np.random.RandomState(0)
    X = rng.normal(size=(120, 30)).astype(np.float32)
    Y = X[:, :3] + rng.normal(size=(120, 3)) > [0.0, 0.5, 2.5]
    Y[:3, 2] = True
    return X, Y.astype(int)


def power(X, weight=None):
    """Mean squared norm of centred features."""
    X = X.astype(np.float64)
    centred = X - np.average(X, axis=0, weights=weight)
    return np.average(np.square(centred).sum(axis=1), weights=weight)


def cross_validated(X, y, C):
    folds = _probe_search._deal(y, np.arange(len(y)))
    total = 0.0
    for fold in range(5):
        model = LogisticRegression(C=C, tol=1e-8, max_iter=10_000)
        model.fit(X[folds != fold].astype(np.float64), y[folds != fold])
        out = folds == fold
        log_p = model.predict_log_proba(X[out])
        total -= log_p[np.arange(out.sum()), y[out]].sum()
    return total / len(y)


def probabilities(head, X):
    with torch.no_grad():
        return head(torch.from_numpy(X)).double().softmax(dim=1).numpy()


def held_out(head, X, y):
    return -np.log(probabilities(head, X))[np.arange(len(y)), y].mean()


@pytest.mark.parametrize("n_features", [64, 300])
def test_search_agrees_with_cross_validated_logistic_regression(digits, n_features):
    X, y = digits
    spread = np.random.RandomState(0).normal(size=(64, n_features)) / 8
    X = (X @ spread).astype(np.float32)
    grid = _probe_search._CS / power(X)
    losses = [cross_validated(X, y, C) for C in grid]
    chosen = search_C(torch.from_numpy(X), y)
    nearest = np.argmin(np.abs(np.log(grid / chosen)))
    assert chosen == pytest.approx(grid[nearest], rel=1e-4)
    assert losses[nearest] <= min(losses) + 3e-3
    assert nearest == 0 or losses[nearest] < losses[nearest - 1]


@pytest.mark.parametrize("n_train", [40, 200])
def test_found_penalty_is_no_worse_than_one_on_digits(n_train):
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    fitted = torch.from_numpy(X[:n_train]), y[:n_train]
    auto, *_ = fit_probe(*fitted, 10, C="auto")
    one, *_ = fit_probe(*fitted, 10)
    losses = [held_out(head, X[n_train:], y[n_train:]) for head in (auto, one)]
    assert losses[0] <= losses[1] * 1.02


def test_found_penalty_is_better_than_one_on_noise(noisy):
    X, y = noisy
    fitted = torch.from_numpy(X[:200]), y[:200]
    auto, *_ = fit_probe(*fitted, 3, C="auto")
    one, *_ = fit_probe(*fitted, 3)
    losses = [held_out(head, X[200:], y[200:]) for head in (auto, one)]
    assert losses[0] < 0.8 * losses[1]
    assert losses[0] < np.log(3)


def test_labels_without_meaning_get_the_strongest_penalty():
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(300, 50)).astype(np.float32), rng.permutation(300) % 3
    assert search_C(torch.from_numpy(X), y) * power(X) < 0.11


@pytest.mark.parametrize("factor", [0.1, 10.0, 1000.0])
def test_scale_of_features_is_nothing(digits, factor):
    X, y = digits
    factor = np.float32(factor)
    C = search_C(torch.from_numpy(X), y)
    C_scaled = search_C(torch.from_numpy(X * factor), y)
    assert C_scaled * factor**2 == pytest.approx(C, rel=1e-4)
    head, *_ = fit_probe(torch.from_numpy(X), y, 5, C="auto")
    scaled, *_ = fit_probe(torch.from_numpy(X * factor), y, 5, C="auto")
    np.testing.assert_allclose(
        probabilities(head, X), probabilities(scaled, X * factor), atol=1e-4
    )


def test_shift_of_features_is_nothing(digits):
    X, y = digits
    C = search_C(torch.from_numpy(X), y)
    assert search_C(torch.from_numpy(X + 10), y) == pytest.approx(C, rel=1e-4)


def test_names_of_labels_are_nothing(digits):
    X, y = digits
    C = search_C(torch.from_numpy(X), y)
    assert search_C(torch.from_numpy(X), 7 * y + 2) == C


def test_sample_of_weight_zero_is_not_there(digits):
    X, y = digits
    weight = np.random.RandomState(0).randint(0, 3, len(y)).astype(float)
    there = weight > 0
    C = search_C(torch.from_numpy(X[there]), y[there], sample_weight=weight[there])
    assert search_C(torch.from_numpy(X), y, sample_weight=weight) == C


def test_sample_of_weight_two_is_there_twice(noisy):
    X, y = noisy[0][:100], noisy[1][:100]
    twice = np.concatenate([np.arange(100), np.arange(50)])
    weight = np.bincount(twice).astype(float)
    once = search_C(torch.from_numpy(X), y, sample_weight=weight)
    repeated = search_C(torch.from_numpy(X[twice]), y[twice])
    assert repeated == pytest.approx(once, rel=1e-4)


def test_repeated_samples_do_not_leak(noisy):
    X, y = noisy[0][:100].repeat(4, axis=0), noisy[1][:100].repeat(4)
    relative = search_C(torch.from_numpy(X), y) * power(X)
    leaked = search_C(torch.from_numpy(X), y, groups=np.arange(400)) * power(X)
    assert relative <= 1.01 and leaked >= 99


def test_groups_are_held_out_together(noisy):
    X, y = noisy[0][:100], noisy[1][:100]
    views = np.concatenate([X, X + np.float32(0.01)])
    groups, weight = np.tile(np.arange(100), 2), np.full(200, 0.5)
    of_views = torch.from_numpy(views), np.tile(y, 2)
    C = search_C(*of_views, sample_weight=weight, groups=groups)
    assert C == pytest.approx(search_C(torch.from_numpy(X), y), rel=1e-3)
    assert search_C(*of_views, sample_weight=weight) > 9 * C


def test_search_is_the_same_every_time(digits):
    X, y = digits
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    C = search_C(torch.from_numpy(X), y)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert search_C(torch.from_numpy(X), y) == C


def test_large_problem_is_not_rotated(digits, monkeypatch):
    X, y = digits
    C = search_C(torch.from_numpy(X), y)
    monkeypatch.setattr(_probe_search, "_LARGEST", 1)
    assert _probe_search._rotate(X, np.full(150, 1 / 150)).axes is None
    assert search_C(torch.from_numpy(X), y) == pytest.approx(C, rel=1e-4)


def test_path_ends_when_the_loss_has_risen(noisy, monkeypatch):
    X, y = noisy[0][:100], noisy[1][:100]
    seen, solve = set(), _probe_search._solve

    def spy(basis, targets, weight, C, *rest):
        seen.add(C)
        return solve(basis, targets, weight, C, *rest)

    monkeypatch.setattr(_probe_search, "_solve", spy)
    chosen = search_C(torch.from_numpy(X), y)
    monkeypatch.setattr(_probe_search, "_RISEN", np.inf)
    ended, _ = len(seen), seen.clear()
    assert search_C(torch.from_numpy(X), y) == chosen
    assert ended < len(seen) == 9


def test_class_of_one_sample_is_never_held_out():
    y = np.array([0] * 7 + [1] * 8 + [2])
    folds = _probe_search._deal(y, np.arange(16))
    assert folds[-1] == -1
    for label in (0, 1):
        assert {*folds[y == label]} == {0, 1, 2, 3, 4}
    X = np.random.RandomState(0).normal(size=(16, 4)).astype(np.float32)
    assert np.isfinite(search_C(torch.from_numpy(X), y))


def test_small_class_is_in_as_many_folds_as_it_has_samples():
    y = np.array([0] * 20 + [1] * 2 + [2] * 3)
    folds = _probe_search._deal(y, np.arange(25))
    assert len({*folds[y == 1]}) == 2 and len({*folds[y == 2]}) == 3
    assert np.bincount(folds).tolist() == [5] * 5
    pairs = np.array([0, 0, 1, 1])
    assert {*_probe_search._deal(pairs, np.arange(4))} == {0, 1}


def test_one_sample_a_class_gets_the_middle_of_the_grid():
    X = np.random.RandomState(0).normal(size=(3, 4)).astype(np.float32)
    C = search_C(torch.from_numpy(X), np.arange(3))
    assert C * power(X) == pytest.approx(10.0, rel=1e-4)


def test_equal_features_get_one():
    X, y = torch.full((10, 3), 0.1), np.arange(10) % 2
    assert search_C(X, y) == 1.0
    assert search_C(X, np.arange(10)) == 1.0
    assert search_alpha(X, y[:, None].astype(float)) == 1.0


def test_search_for_outputs_agrees_with_fits(labels):
    X, Y = labels
    C = search_multilabel_C(torch.from_numpy(X), Y)
    rng = np.random.RandomState(1)
    X_new = rng.normal(size=(2000, 30)).astype(np.float32)
    Y_new = X_new[:, :3] + rng.normal(size=(2000, 3)) > [0.0, 0.5, 2.5]

    def loss_of(C):
        head, *_ = fit_multilabel_probe(torch.from_numpy(X), Y, C=C)
        with torch.no_grad():
            scores = head(torch.from_numpy(X_new)).numpy()
        return (np.logaddexp(0, scores) - Y_new * scores).mean()

    assert loss_of(C) < loss_of(1.0)
    assert loss_of(C) <= min(loss_of(C * 10), loss_of(C / 10))


def test_search_for_outputs_of_weights(labels):
    X, Y = labels
    weight = np.random.RandomState(0).randint(0, 3, len(Y)).astype(float)
    there, n = weight > 0, weight.astype(int)
    C = search_multilabel_C(torch.from_numpy(X), Y, sample_weight=weight)
    present = torch.from_numpy(X[there]), Y[there]
    assert search_multilabel_C(*present, sample_weight=weight[there]) == C
    repeated = search_multilabel_C(
        torch.from_numpy(X.repeat(n, axis=0)), Y.repeat(n, axis=0)
    )
    assert repeated == pytest.approx(C, rel=1e-4)


def test_rare_values_are_spread_over_folds(labels):
    _, Y = labels
    groups = np.arange(len(Y))
    assert Y[:, 2].sum() == 4
    folds = _probe_search._deal(_probe_search._rarest_values(Y, groups), groups)
    assert len({*folds[Y[:, 2] == 1]}) == Y[:, 2].sum()


def test_outputs_of_one_value_are_left_out_of_the_search(labels):
    X, Y = labels
    C = search_multilabel_C(torch.from_numpy(X), Y)
    more = np.concatenate([Y, np.ones((len(Y), 1), int)], axis=1)
    assert search_multilabel_C(torch.from_numpy(X), more) == C
    middle = search_multilabel_C(torch.from_numpy(X), more[:, 3:])
    assert middle * power(X) == pytest.approx(10.0, rel=1e-4)


@pytest.mark.parametrize("n_samples", [20, 120])
def test_alpha_is_that_of_leave_one_out(diabetes, n_samples):
    X, Y = diabetes[0][:n_samples], diabetes[1][:n_samples]
    alphas = _probe_search._ALPHAS * power(X)
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
    A, eigenvalues = _probe_search._left_factor(root * (X - share @ X))
    blocks = _probe_search._blocks(groups)
    found = _probe_search._left_out_error(
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


def test_solve_logistic_is_at_the_optimum(labels):
    X, Y = labels
    weight = np.random.RandomState(0).uniform(0.5, 2, len(Y))
    for columns in (slice(None), slice(0, 10)):
        part = X[:, columns]
        coef, intercept, n_iter = solve_logistic(
            torch.from_numpy(part), Y[:, :2], weight, 3.0
        )
        for k in range(2):
            model = LogisticRegression(C=3.0, tol=1e-8, max_iter=10_000)
            model.fit(part.astype(np.float64), Y[:, k], sample_weight=weight)
            np.testing.assert_allclose(coef[k], model.coef_[0], atol=1e-4)
            np.testing.assert_allclose(intercept[k], model.intercept_[0], atol=1e-4)
        assert 0 < n_iter < 100
