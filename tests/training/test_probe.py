import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from sktransfer.training import (
    _probe,
    fit_multilabel_probe,
    fit_probe,
    search_C,
    search_multilabel_C,
)


@pytest.fixture(params=[2, 5], ids=["binary", "multiclass"])
def digits(request):
    X, y = load_digits(n_class=request.param, return_X_y=True)
    return (X[:200] / 16).astype(np.float32), y[:200], request.param


def scores_of(head, X):
    with torch.no_grad():
        return head(torch.from_numpy(X)).numpy()


def test_rows_of_two_classes_are_opposite():
    X, y = load_digits(n_class=2, return_X_y=True)
    head, _, _ = fit_probe(torch.from_numpy(X).float(), y, 2)
    assert head.weight.shape == (2, 64) and head.weight.dtype == torch.float32
    assert torch.equal(head.weight[0], -head.weight[1])
    assert torch.equal(head.bias[0], -head.bias[1])


def test_weight_two_is_the_sample_twice(digits):
    X, y, n_classes = digits
    weight = np.random.RandomState(0).randint(1, 4, len(y)).astype(float)
    head, _, loss = fit_probe(torch.from_numpy(X), y, n_classes, sample_weight=weight)
    n = weight.astype(int)
    repeated = torch.from_numpy(X.repeat(n, axis=0))
    twin, _, twin_loss = fit_probe(repeated, y.repeat(n), n_classes)
    np.testing.assert_allclose(scores_of(head, X), scores_of(twin, X), atol=0.02)
    assert loss == pytest.approx(twin_loss, abs=1e-3)


def test_weights_of_one_are_no_weights(digits):
    X, y, n_classes = digits
    head, *_ = fit_probe(torch.from_numpy(X), y, n_classes)
    twin, *_ = fit_probe(
        torch.from_numpy(X), y, n_classes, sample_weight=np.ones(len(y))
    )
    np.testing.assert_allclose(scores_of(head, X), scores_of(twin, X), atol=1e-3)


def test_absent_class_is_never_predicted(digits):
    X, y, n_classes = digits
    head, *_ = fit_probe(torch.from_numpy(X), y * 2, 2 * n_classes)
    scores = scores_of(head, X)
    assert (scores[:, 1::2] < -9000).all()
    twin, *_ = fit_probe(torch.from_numpy(X), y, n_classes)
    np.testing.assert_array_equal(
        scores[:, ::2].argmax(1), scores_of(twin, X).argmax(1)
    )


def test_auto_is_the_penalty_that_is_found(digits):
    X, y, n_classes = digits
    weight = np.random.RandomState(0).randint(0, 3, len(y)).astype(float)
    features = torch.from_numpy(X)
    C = search_C(features, y, sample_weight=weight)
    head, n_iter, loss = fit_probe(
        features, y, n_classes, C="auto", sample_weight=weight
    )
    twin, *rest = fit_probe(features, y, n_classes, C=C, sample_weight=weight)
    assert torch.equal(head.weight, twin.weight) and [n_iter, loss] == rest


@pytest.mark.parametrize("C", [0.1, 10.0])
@pytest.mark.parametrize("n_samples", [50, 200])
def test_probe_is_the_optimum(digits, C, n_samples):
    X, y, n_classes = digits[0][:n_samples], digits[1][:n_samples], digits[2]
    weight = np.random.RandomState(0).uniform(0.5, 2, n_samples)
    head, n_iter, loss = fit_probe(
        torch.from_numpy(X), y, n_classes, C=C, sample_weight=weight
    )
    best = LogisticRegression(C=C, tol=1e-10, max_iter=10_000)
    best.fit(X.astype(np.float64), y, sample_weight=weight)
    with torch.no_grad():
        found = head(torch.from_numpy(X)).double().softmax(dim=1).numpy()
    expected = best.predict_proba(X)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    losses = -np.log(expected[np.arange(n_samples), y])
    assert loss == pytest.approx(np.average(losses, weights=weight), rel=1e-3)
    assert isinstance(n_iter, int) and n_iter > 0
    assert head.weight.dtype == torch.float32
    if n_classes == 2:
        assert torch.equal(head.weight[0], -head.weight[1])


def test_probe_sample_of_weight_zero_is_not_there(digits):
    X, y, n_classes = digits
    weight = np.random.RandomState(0).randint(0, 3, len(y)).astype(float)
    weight[0], y = 0, np.where(np.arange(len(y)), y, n_classes)
    there = weight > 0
    head, n_iter, loss = fit_probe(
        torch.from_numpy(X), y, n_classes + 2, C=1.0, sample_weight=weight
    )
    present = torch.from_numpy(X[there]), y[there]
    twin, twin_iter, twin_loss = fit_probe(
        *present, n_classes + 2, C=1.0, sample_weight=weight[there]
    )
    assert torch.equal(head.weight, twin.weight) and torch.equal(head.bias, twin.bias)
    assert head.bias[n_classes:].tolist() == [-1e4, -1e4]
    assert n_iter == twin_iter and loss == pytest.approx(twin_loss)


def test_probe_weight_two_is_the_sample_twice(digits):
    X, y, n_classes = digits
    n = np.random.RandomState(0).randint(1, 4, len(y))
    head, _, loss = fit_probe(
        torch.from_numpy(X), y, n_classes, C=1.0, sample_weight=n.astype(float)
    )
    twin, _, twin_loss = fit_probe(
        torch.from_numpy(X.repeat(n, axis=0)), y.repeat(n), n_classes, C=1.0
    )
    np.testing.assert_allclose(scores_of(head, X), scores_of(twin, X), atol=1e-4)
    assert loss == pytest.approx(twin_loss, abs=1e-5)


@pytest.fixture
def labels():
    """Features and outputs; the last two have one value."""
    rng = np.random.RandomState(0)
    X = rng.normal(size=(80, 12)).astype(np.float32)
    Y = X[:, :3] + rng.normal(size=(80, 3)) > [0.0, 0.5, 1.0]
    return X, np.concatenate([Y, np.tile([0, 1], (80, 1))], axis=1).astype(int)


@pytest.mark.parametrize("C", [0.1, 10.0])
def test_multilabel_agrees_with_logistic_regressions(labels, C):
    X, Y = labels
    weight = np.random.RandomState(0).uniform(0.5, 2, len(Y))
    head, n_iter, loss = fit_multilabel_probe(
        torch.from_numpy(X), Y, C=C, sample_weight=weight
    )
    scores = scores_of(head, X)
    losses = np.zeros(Y.shape)
    for k in range(3):
        model = LogisticRegression(C=C, tol=1e-8, max_iter=10_000)
        model.fit(X.astype(np.float64), Y[:, k], sample_weight=weight)
        np.testing.assert_allclose(scores[:, k], model.decision_function(X), atol=1e-4)
        losses[:, k] = -model.predict_log_proba(X)[np.arange(80), Y[:, k]]
    expected = np.average(losses.mean(axis=1), weights=weight)
    assert loss == pytest.approx(expected, rel=1e-4)
    assert isinstance(n_iter, int) and n_iter > 0
    assert head.weight.shape == (5, 12) and head.weight.dtype == torch.float32


def test_weighted_labels_agree_with_class_weights_of_sklearn(labels):
    X, Y = labels
    label_weight = np.array([[1.0, 0.5, 2.0, 1.0, 3.0], [4.0, 1.0, 3.0, 2.0, 1.0]])
    weight = np.random.RandomState(0).uniform(0.5, 2, len(Y))
    weights = {"sample_weight": weight, "label_weight": label_weight}
    head, _, loss = fit_multilabel_probe(torch.from_numpy(X), Y, C=2.0, **weights)
    scores, losses = scores_of(head, X), np.zeros(Y.shape)
    for k in range(3):
        class_weight = dict(enumerate(label_weight[:, k]))
        model = LogisticRegression(
            C=2.0, tol=1e-8, max_iter=10_000, class_weight=class_weight
        )
        model.fit(X.astype(np.float64), Y[:, k], sample_weight=weight)
        np.testing.assert_allclose(scores[:, k], model.decision_function(X), atol=1e-4)
        log_proba = model.predict_log_proba(X)[np.arange(80), Y[:, k]]
        losses[:, k] = -log_proba * label_weight[Y[:, k], k]
    assert head.bias[3:].tolist() == [-1e4, 1e4]
    expected = np.average(losses.mean(axis=1), weights=weight)
    assert loss == pytest.approx(expected, rel=1e-4)


def test_search_weighs_the_labels(labels):
    X, Y = torch.from_numpy(labels[0]), labels[1]
    C = search_multilabel_C(X, Y)
    of_ones = search_multilabel_C(X, Y, label_weight=np.ones((2, 5)))
    assert of_ones == C
    # Ten times the losses with a tenth of C are the same problem.
    of_tens = search_multilabel_C(X, Y, label_weight=np.full((2, 5), 10.0))
    assert of_tens == pytest.approx(C / 10)
    label_weight = np.array([[1.0] * 5, [5.0] * 5])
    found = search_multilabel_C(X, Y, label_weight=label_weight)
    head, *_ = fit_multilabel_probe(X, Y, C="auto", label_weight=label_weight)
    twin, *_ = fit_multilabel_probe(X, Y, C=found, label_weight=label_weight)
    assert torch.equal(head.weight, twin.weight)


def test_multilabel_outputs_of_one_value_are_constant(labels):
    X, Y = labels
    head, n_iter, loss = fit_multilabel_probe(torch.from_numpy(X), Y[:, 3:])
    assert head.bias.tolist() == [-1e4, 1e4]
    assert not head.weight.any()
    assert n_iter == 0 and loss == 0.0


def test_multilabel_sample_of_weight_zero_is_not_there(labels):
    X, Y = labels
    Y[0] = 1 - Y[0]  # else the last two outputs have one value
    weight = np.random.RandomState(0).randint(0, 3, len(Y)).astype(float)
    weight[0] = 0
    there = weight > 0
    head, _, loss = fit_multilabel_probe(torch.from_numpy(X), Y, sample_weight=weight)
    twin, _, twin_loss = fit_multilabel_probe(
        torch.from_numpy(X[there]), Y[there], sample_weight=weight[there]
    )
    assert torch.equal(head.weight, twin.weight) and torch.equal(head.bias, twin.bias)
    assert head.bias[3:].tolist() == [-1e4, 1e4]
    assert loss == pytest.approx(twin_loss)


def test_multilabel_weight_two_is_the_sample_twice(labels):
    X, Y = labels
    n = np.random.RandomState(0).randint(1, 4, len(Y))
    head, _, loss = fit_multilabel_probe(
        torch.from_numpy(X), Y, sample_weight=n.astype(float)
    )
    twin, _, twin_loss = fit_multilabel_probe(
        torch.from_numpy(X.repeat(n, axis=0)), Y.repeat(n, axis=0)
    )
    np.testing.assert_allclose(scores_of(head, X), scores_of(twin, X), atol=1e-3)
    assert loss == pytest.approx(twin_loss, abs=1e-5)


def test_multilabel_auto_is_the_penalty_that_is_found(labels):
    X, Y = labels
    features, weight = torch.from_numpy(X), np.linspace(0, 2, len(Y))
    C = search_multilabel_C(features, Y, sample_weight=weight)
    head, *_ = fit_multilabel_probe(features, Y, C="auto", sample_weight=weight)
    twin, *_ = fit_multilabel_probe(features, Y, C=C, sample_weight=weight)
    assert torch.equal(head.weight, twin.weight)


def test_heads_do_not_touch_global_generators(labels):
    X, Y = labels
    state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    features = torch.from_numpy(X)
    fit_probe(features, Y[:, 0], 2, C="auto")
    fit_multilabel_probe(features, Y, C="auto")
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


@pytest.fixture(params=[2, 5], ids=["binary", "multiclass"])
def few_digits(request):
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
def rare_labels():
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
    folds = _probe._deal(y, np.arange(len(y)))
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
def test_search_agrees_with_cross_validated_logistic_regression(few_digits, n_features):
    X, y = few_digits
    spread = np.random.RandomState(0).normal(size=(64, n_features)) / 8
    X = (X @ spread).astype(np.float32)
    grid = _probe._CS / power(X)
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


def test_scale_of_features_is_nothing(few_digits):
    X, y = few_digits
    factor = np.float32(1000)
    C = search_C(torch.from_numpy(X), y)
    C_scaled = search_C(torch.from_numpy(X * factor), y)
    assert C_scaled * factor**2 == pytest.approx(C, rel=1e-4)
    head, *_ = fit_probe(torch.from_numpy(X), y, 5, C="auto")
    scaled, *_ = fit_probe(torch.from_numpy(X * factor), y, 5, C="auto")
    np.testing.assert_allclose(
        probabilities(head, X), probabilities(scaled, X * factor), atol=1e-4
    )


def test_shift_of_features_is_nothing(few_digits):
    X, y = few_digits
    C = search_C(torch.from_numpy(X), y)
    assert search_C(torch.from_numpy(X + 10), y) == pytest.approx(C, rel=1e-4)


def test_names_of_labels_are_nothing(few_digits):
    X, y = few_digits
    C = search_C(torch.from_numpy(X), y)
    assert search_C(torch.from_numpy(X), 7 * y + 2) == C


def test_sample_of_weight_zero_is_not_there(few_digits):
    X, y = few_digits
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


def test_search_is_the_same_every_time(few_digits):
    X, y = few_digits
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    C = search_C(torch.from_numpy(X), y)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert search_C(torch.from_numpy(X), y) == C


def test_large_problem_is_solved_as_it_is(few_digits, monkeypatch):
    X, y = few_digits
    C = search_C(torch.from_numpy(X), y)
    monkeypatch.setattr(_probe, "_LARGEST", 1)
    assert _probe._change_basis(X[:10], np.ones(10)).axes is None
    assert search_C(torch.from_numpy(X), y) == pytest.approx(C, rel=1e-4)


def test_path_ends_when_the_loss_has_risen(noisy, monkeypatch):
    X, y = noisy[0][:100], noisy[1][:100]
    seen, fit = set(), _probe._fit

    def spy(model, *data):
        seen.add(model.C)
        return fit(model, *data)

    monkeypatch.setattr(_probe, "_fit", spy)
    chosen = search_C(torch.from_numpy(X), y)
    monkeypatch.setattr(_probe, "_RISEN", np.inf)
    ended, _ = len(seen), seen.clear()
    assert search_C(torch.from_numpy(X), y) == chosen
    assert ended < len(seen) == 9


def test_rare_label_that_is_held_out_whole_is_left_out_of_the_fold():
    rng = np.random.RandomState(0)
    X, Y = rng.normal(size=(20, 4)).astype(np.float32), np.zeros((20, 2), int)
    Y[:9, 0], Y[:2, 1] = 1, 1
    groups = np.concatenate([[0, 0], np.arange(1, 19)])
    assert search_multilabel_C(torch.from_numpy(X), Y, groups=groups) > 0


def test_class_of_one_sample_is_never_held_out():
    y = np.array([0] * 7 + [1] * 8 + [2])
    folds = _probe._deal(y, np.arange(16))
    assert folds[-1] == -1
    for label in (0, 1):
        assert {*folds[y == label]} == {0, 1, 2, 3, 4}
    X = np.random.RandomState(0).normal(size=(16, 4)).astype(np.float32)
    assert np.isfinite(search_C(torch.from_numpy(X), y))


def test_small_class_is_in_as_many_folds_as_it_has_samples():
    y = np.array([0] * 20 + [1] * 2 + [2] * 3)
    folds = _probe._deal(y, np.arange(25))
    assert len({*folds[y == 1]}) == 2 and len({*folds[y == 2]}) == 3
    assert np.bincount(folds).tolist() == [5] * 5
    pairs = np.array([0, 0, 1, 1])
    assert {*_probe._deal(pairs, np.arange(4))} == {0, 1}


def test_of_many_samples_one_fold_is_scored(noisy, monkeypatch):
    X, y = noisy
    chosen = search_C(torch.from_numpy(X), y)
    monkeypatch.setattr(_probe, "_MANY", len(X) - 1)
    folds = _probe._deal(y, np.arange(len(X)))
    assert {*folds} == {-1, 0} and np.mean(folds == 0) == pytest.approx(0.2, abs=0.02)
    found = search_C(torch.from_numpy(X), y)
    assert abs(np.log10(found / chosen)) < 1.01  # the same, or its neighbour
    monkeypatch.setattr(_probe, "_MANY", len(X))  # samples of one group count once
    folds = _probe._deal(np.tile(y, 2), np.tile(np.arange(len(X)), 2))
    assert {*folds} == {0, 1, 2, 3, 4}


def test_one_sample_a_class_gets_the_middle_of_the_grid():
    X = np.random.RandomState(0).normal(size=(3, 4)).astype(np.float32)
    C = search_C(torch.from_numpy(X), np.arange(3))
    assert C * power(X) == pytest.approx(10.0, rel=1e-4)


def test_equal_features_get_one():
    X, y = torch.full((10, 3), 0.1), np.arange(10) % 2
    assert search_C(X, y) == 1.0
    assert search_C(X, np.arange(10)) == 1.0


def test_search_for_outputs_agrees_with_fits(rare_labels):
    X, Y = rare_labels
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


def test_search_for_outputs_of_weights(rare_labels):
    X, Y = rare_labels
    weight = np.random.RandomState(0).randint(0, 3, len(Y)).astype(float)
    there, n = weight > 0, weight.astype(int)
    C = search_multilabel_C(torch.from_numpy(X), Y, sample_weight=weight)
    present = torch.from_numpy(X[there]), Y[there]
    assert search_multilabel_C(*present, sample_weight=weight[there]) == C
    repeated = search_multilabel_C(
        torch.from_numpy(X.repeat(n, axis=0)), Y.repeat(n, axis=0)
    )
    assert repeated == pytest.approx(C, rel=1e-4)


def test_rare_values_are_spread_over_folds(rare_labels):
    _, Y = rare_labels
    groups = np.arange(len(Y))
    assert Y[:, 2].sum() == 4
    folds = _probe._deal(_probe._rarest_values(Y, groups), groups)
    assert len({*folds[Y[:, 2] == 1]}) == Y[:, 2].sum()


def test_outputs_of_one_value_are_left_out_of_the_search(rare_labels):
    X, Y = rare_labels
    C = search_multilabel_C(torch.from_numpy(X), Y)
    more = np.concatenate([Y, np.ones((len(Y), 1), int)], axis=1)
    assert search_multilabel_C(torch.from_numpy(X), more) == C
    middle = search_multilabel_C(torch.from_numpy(X), more[:, 3:])
    assert middle * power(X) == pytest.approx(10.0, rel=1e-4)


def test_search_does_not_need_convergence(few_digits, monkeypatch):
    X, y = few_digits
    monkeypatch.setitem(_probe._LOOSE, "max_iter", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert search_C(torch.from_numpy(X), y) > 0
    monkeypatch.setitem(_probe._TIGHT, "max_iter", 1)
    with pytest.warns(ConvergenceWarning):
        fit_probe(torch.from_numpy(X), y, 10)
