import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, Ridge

from sktransfer.training._probe import (
    fit_multilabel_probe,
    fit_probe,
    fit_ridge,
)
from sktransfer.training._probe_search import (
    search_alpha,
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


@pytest.fixture
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return X[:100].astype(np.float32), np.stack([y, y[::-1]], axis=1)[:100]


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


def test_heads_do_not_touch_global_generators(labels):
    X, Y = labels
    state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    features = torch.from_numpy(X)
    fit_probe(features, Y[:, 0], 2, C="auto")
    fit_multilabel_probe(features, Y, C="auto")
    fit_ridge(features, Y.astype(float))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
