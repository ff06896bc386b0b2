import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn

from sktransfer.training import Network, cross_entropy, fit_probe
from sktransfer.training._data import HeadData
from sktransfer.training._solved_head import (
    Probe,
    Solution,
    approximate_online,
    begin_online,
    is_narrow,
    last_layer,
    update_online,
)

RNG = np.random.RandomState(0)
CENTRES = 2 * RNG.normal(size=(4, 12))
Y = np.arange(120) % 4
X = torch.from_numpy((CENTRES[Y] + RNG.normal(size=(120, 12))).astype(np.float32))
SORTED = [np.flatnonzero(Y == c) for c in range(4)]


def make_linear(k):
    linear = nn.Linear(12, k)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def learn(parts, targets, penalty, kind, weight=None):
    """Update a head with the parts of the samples, one after another."""
    weight = np.ones(len(X)) if weight is None else weight
    linear, state = make_linear(4 if targets.ndim == 1 else targets.shape[1]), None
    for rows in parts:
        data = X[rows], targets[rows], weight[rows]
        if state is None:
            state = begin_online(linear, *(part[:0] for part in data), kind)
        state, n_iter = update_online(state, linear, *data, penalty, kind)
        assert n_iter <= 10
    return linear


def scores_of(linear):
    with torch.no_grad():
        return linear(X).double().numpy()


def test_binary_outputs_are_learned():
    outputs = np.stack([Y > 1, Y % 2], axis=1).astype(np.float32)
    found = expit(scores_of(learn(SORTED * 3, outputs, 5.0, "multilabel")))
    for column, y in enumerate(outputs.T):
        best = LogisticRegression(C=0.2, tol=1e-10, max_iter=10_000).fit(X.double(), y)
        right = [((p > 0.5) == y).mean() for p in (found[:, column], best.predict(X))]
        assert right[0] >= right[1] - 0.03


def test_parts_of_one_class_are_learned_in_any_order():
    full = softmax(scores_of(learn([range(120)], Y, 1.0, "multiclass")), axis=1)
    for parts in (SORTED, SORTED[::-1], SORTED * 3, np.split(np.argsort(Y), 30)):
        proba = softmax(scores_of(learn(parts, Y, 1.0, "multiclass")), axis=1)
        assert (proba.argmax(axis=1) == Y).mean() > (
            full.argmax(axis=1) == Y
        ).mean() - 0.03


def test_same_samples_again_do_no_harm():
    best, *_ = fit_probe(X, Y, 4, C=1.0)
    often = learn([range(120)] * 30, Y, 1.0, "multiclass")
    losses = [
        nn.functional.cross_entropy(linear(X), torch.from_numpy(Y)).item()
        for linear in (best, often)
    ]
    assert losses[1] <= losses[0] + 0.05


def test_squared_error_is_ridge_regression_on_all_parts():
    targets = CENTRES[Y][:, :2] + RNG.normal(size=(120, 2))
    weight = RNG.randint(0, 3, 120).astype(float)
    found = learn(SORTED, targets, 2.0, "regression", weight)
    expected = Ridge(alpha=2.0).fit(X.double(), targets, sample_weight=weight)
    np.testing.assert_allclose(
        scores_of(found), expected.predict(X.double()), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("kind", ["begin", "assume"])
def test_state_of_a_solution_leaves_it_as_it_is(kind):
    head, *_ = fit_probe(X, Y, 4, C=1.0)
    before = scores_of(head)
    if kind == "begin":
        state = begin_online(head, X, Y, np.ones(120), "multiclass")
    else:
        state = approximate_online(head, X, 120, 1.0, "multiclass")
    state, _ = update_online(state, head, X, Y, np.ones(120), 1.0, "multiclass")
    moved = np.abs(softmax(scores_of(head), axis=1) - softmax(before, axis=1)).max()
    assert moved < 0.1
    assert np.isfinite(state.gram).all() and np.isfinite(state.pull).all()


def test_samples_without_weight_change_nothing():
    head, *_ = fit_probe(X, Y, 4, C=1.0)
    state = begin_online(head, X, Y, np.ones(120), "multiclass")
    before = head.weight.detach().clone()
    again, n_iter = update_online(state, head, X, Y, np.zeros(120), 1.0, "multiclass")
    assert again is state and n_iter == 0 and torch.equal(head.weight, before)


def test_equal_weights_of_labels_are_weights_of_samples():
    outputs = np.stack([Y > 1, Y % 2], axis=1).astype(np.float32)
    weight = RNG.uniform(0.5, 2, size=120)
    one, other = (
        learn(SORTED, outputs, 5.0, "multilabel", weights)
        for weights in (weight, np.stack([weight, weight], axis=1))
    )
    assert torch.equal(one.weight, other.weight) and torch.equal(one.bias, other.bias)


def test_weights_of_labels_approach_the_weighted_optimum():
    outputs = np.stack([Y > 1, Y == 3], axis=1).astype(np.float32)
    weight = np.where(outputs, [1.0, 3.0], [2.0, 1.0])
    linear = make_linear(2)
    state = begin_online(linear, X[:0], outputs[:0], weight[:0], "multilabel")
    for _ in range(40):  # each time from where the last one ended
        update_online(state, linear, X, outputs, weight, 5.0, "multilabel")
    for column, score in enumerate(scores_of(linear).T):
        best = LogisticRegression(C=0.2, tol=1e-10, max_iter=10_000)
        best.fit(X.double(), outputs[:, column], sample_weight=weight[:, column])
        np.testing.assert_allclose(score, best.decision_function(X), atol=0.03)
        plain = best.fit(X.double(), outputs[:, column])
        assert abs(score - plain.decision_function(X)).max() > 0.3


def test_wide_layers_have_no_state():
    assert is_narrow(nn.Linear(4096, 2)) and not is_narrow(nn.Linear(4097, 2))


def probe(**changes):
    settings = {
        "solve": None,
        "penalty": lambda C: 1 / C,
        "loss": cross_entropy,
        "kind": "multiclass",
        "is_final": True,
        **changes,
    }
    return Probe(**settings)


def some_data(n=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, 3, generator=generator)
    y = (features[:, 0] > 0).long().numpy()
    return HeadData(features, y, np.ones(n), np.arange(n))


def test_last_layer_is_behind_the_dropout():
    linear = nn.Linear(3, 2)
    for head in (linear, nn.Sequential(nn.Dropout(0.2), linear)):
        assert last_layer(Network(nn.Identity(), nn.Identity(), head)) is linear


def test_mean_loss_is_weighted():
    data = some_data()._replace(weight=np.arange(20.0))
    network = Network(nn.Identity(), nn.Identity(), nn.Linear(3, 2))
    losses = cross_entropy(network.head(data.features), torch.from_numpy(data.y))
    expected = np.average(losses.detach().numpy(), weights=data.weight)
    assert probe().mean_loss(network, data) == pytest.approx(expected)


def test_parts_are_learned_with_and_without_a_bound_of_earlier_ones():
    first, second = some_data(), some_data(seed=1)
    head = nn.Linear(3, 2)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    online = probe().begin_online(Solution(head, 1.0, {}), first)
    assert [part.shape for part in online] == [(4, 4), (4, 2)]
    for known in (online, None):
        state, n_iter = probe().solve_on(
            head, second, strength=1.0, online=known, n_before=20
        )
        assert n_iter > 0 and len(state) == 2
        right = head(second.features).argmax(1).numpy() == second.y
        assert right.mean() > 0.9


def test_wide_heads_keep_no_bound():
    head = nn.utils.skip_init(nn.Linear, 5000, 2)
    assert probe().begin_online(Solution(head, 1.0, {}), some_data()) is None
