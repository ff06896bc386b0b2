import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from sktransfer.training import fit_probe


@pytest.fixture(params=[2, 5], ids=["binary", "multiclass"])
def digits(request):
    X, y = load_digits(n_class=request.param, return_X_y=True)
    return (X[:200] / 16).astype(np.float32), y[:200], request.param


def scores_of(head, X):
    with torch.no_grad():
        return head(torch.from_numpy(X)).numpy()


@pytest.mark.parametrize("C", [0.1, 1.0, 10.0])
def test_agrees_with_logistic_regression(digits, C):
    X, y, n_classes = digits
    head, n_iter, loss = fit_probe(torch.from_numpy(X), y, n_classes, C=C)
    reference = LogisticRegression(C=C, max_iter=1000).fit(X, y)
    scores = scores_of(head, X)
    if n_classes == 2:
        scores = scores[:, 1] - scores[:, 0]
    np.testing.assert_allclose(scores, reference.decision_function(X), atol=1e-4)
    probability = reference.predict_proba(X)[np.arange(len(y)), y]
    assert loss == pytest.approx(-np.log(probability).mean(), rel=1e-3)
    assert isinstance(n_iter, int) and n_iter == reference.n_iter_[0]


def test_is_near_the_optimum(digits):
    X, y, n_classes = digits
    head, _, loss = fit_probe(torch.from_numpy(X), y, n_classes)
    best = LogisticRegression(tol=1e-8, max_iter=10_000).fit(X.astype(np.float64), y)
    penalty = np.square(best.coef_).sum() / 2 / len(y)
    probability = best.predict_proba(X)[np.arange(len(y)), y]
    optimum = -np.log(probability).mean() + penalty
    coef = head.weight.detach().numpy()
    coef = coef[1:] - coef[:1] if n_classes == 2 else coef
    assert loss + np.square(coef).sum() / 2 / len(y) == pytest.approx(optimum, rel=1e-3)


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
