"""Centroids: a head that moves to the target, or stays where there is no gap."""

import pickle

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from sktransfer.adaptation import Centroids
from sktransfer.adaptation._centroids import (
    LinearHead,
    adapt_head,
    measure_gap,
    measure_source,
)
from tests.adaptation._domains_of_digits import (
    MASKED,
    NEW,
    ROWS,
    SOURCE,
    TARGET,
    Y_NEW,
    N,
    Y,
    classifier,
    outputs,
)

D, K = 40, 4
RNG = np.random.RandomState(0)
MEANS = RNG.normal(size=(K, D))
SHIFT = 1.5 * RNG.normal(size=D)
EQUAL, SKEWED = np.full(K, 1 / K), np.array([0.7, 0.15, 0.1, 0.05])


def draw(shares, n, seed, shift=0.0):
    rng = np.random.RandomState(seed)
    y = rng.choice(K, n, p=shares)
    return MEANS[y] + 0.8 * rng.normal(size=(n, D)) + shift, y


@pytest.fixture(scope="module")
def source():
    """Moments of a source, with the head that is best for it."""
    X, _ = draw(EQUAL, 200, 1)
    layer = nn.Linear(D, K)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(MEANS))
        layer.bias.copy_(torch.from_numpy(-(MEANS**2).sum(1) / 2))
    return measure_source(torch.from_numpy(X), layer)


def accuracy(head, X, y):
    return np.mean(head(X).argmax(axis=1) == y)


def test_moments_are_those_of_the_classes(source):
    np.testing.assert_allclose(source["shares"], EQUAL, atol=0.1)
    np.testing.assert_allclose(source["means"], MEANS, atol=0.5)
    # K - 1 of D directions are left out.
    assert source["variance"] == pytest.approx(0.8**2 * (D - K + 1), rel=0.1)


@pytest.mark.parametrize("shares", [EQUAL, SKEWED], ids=["equal", "skewed"])
def test_without_a_gap_the_head_stays(source, shares):
    X, _ = draw(shares, 100, 2)
    head, found = adapt_head(source, X)
    assert found["gap"] < 2 and not found["adapts"] and found["class_shares"] is None
    np.testing.assert_array_equal(head.weight, source["weight"])
    np.testing.assert_array_equal(head.bias, source["bias"])


@pytest.mark.parametrize("shares", [EQUAL, SKEWED], ids=["equal", "skewed"])
def test_shift_is_undone_whatever_the_shares(source, shares):
    X, _ = draw(shares, 200, 3, SHIFT)
    X_new, y_new = draw(shares, 400, 4, SHIFT)
    before = accuracy(LinearHead(source["weight"], source["bias"]), X_new, y_new)
    head, found = adapt_head(source, X)
    assert found["adapts"] and found["gap"] > 10
    np.testing.assert_allclose(found["class_shares"], shares, atol=0.1)
    assert accuracy(head, X_new, y_new) > max(0.97, before)


def test_gap_is_one_by_chance_and_does_not_see_the_shares(source):
    gaps = [
        [measure_gap(source, draw(shares, 100, seed)[0]) for seed in range(10, 30)]
        for shares in (EQUAL, SKEWED)
    ]
    np.testing.assert_allclose(np.mean(gaps, axis=1), 1, atol=0.5)
    few = {**source, "means": source["means"][:, :2]}
    assert measure_gap(few, np.zeros((5, 2))) == 0
    single = [measure_gap(source, draw(EQUAL, 1, seed)[0]) for seed in range(10)]
    assert max(single) < 3
    assert measure_gap({**source, "variance": 0.0}, np.zeros((5, D))) == 0


def test_a_class_without_samples_is_still_not_predicted():
    X, y = draw(EQUAL, 100, 1)
    layer = nn.Linear(D, K + 1)
    with torch.no_grad():
        layer.weight.zero_()[1:].copy_(torch.from_numpy(MEANS))
        layer.bias[1:].copy_(torch.from_numpy(-(MEANS**2).sum(1) / 2))
        layer.bias[0] = -1e4
    head, found = adapt_head(measure_source(torch.from_numpy(X), layer), X + SHIFT)
    assert found["class_shares"][0] == 0 and np.isfinite(head.bias).all()
    assert accuracy(head, X + SHIFT, y + 1) > 0.97


# The method within estimators


@pytest.fixture(scope="module")
def fitted():
    return classifier("centroids", freeze="all").fit(ROWS, MASKED)


def test_it_gains_on_a_shift_and_needs_no_stages(fitted):
    plain = classifier("none", freeze="all").fit(ROWS, MASKED)
    with_it = classifier(Centroids(min_gap=0), freeze="all").fit(ROWS, MASKED)
    assert plain.adaptation_ is None
    assert with_it.adaptation_["adapts"]
    assert with_it.score(NEW, Y_NEW) > plain.score(NEW, Y_NEW)
    assert {*fitted.adaptation_} == {"adapts", "gap", "class_shares"}


def test_same_domain_changes_no_bit():
    rows = np.concatenate([SOURCE, SOURCE])
    plain = classifier("none", freeze="all").fit(rows, MASKED)
    found = classifier("centroids", freeze="all").fit(rows, MASKED)
    assert not found.adaptation_["adapts"]
    np.testing.assert_array_equal(outputs(found), outputs(plain))


@pytest.mark.parametrize("freeze", ["all", 1])
def test_without_the_source_it_is_the_same(freeze):
    method = Centroids(min_gap=0)
    together = classifier(method, freeze=freeze).fit(ROWS, MASKED)
    later = classifier(method, freeze=freeze).fit(SOURCE, Y)
    assert later.adaptation_ is None
    later = pickle.loads(pickle.dumps(later))
    np.testing.assert_array_equal(outputs(later.adapt(TARGET)), outputs(together))
    np.testing.assert_array_equal(
        outputs(later.adapt(SOURCE).adapt(TARGET)), outputs(together)
    )
    assert softmax(later.decision_function(NEW), axis=1) == pytest.approx(
        outputs(later)
    )
    twin = pickle.loads(pickle.dumps(together))
    np.testing.assert_array_equal(outputs(twin), outputs(together))
    np.testing.assert_array_equal(
        twin.adaptation_["class_shares"], together.adaptation_["class_shares"]
    )
    assert len(Y) == N


def test_what_it_does_not_suit():
    y = np.stack([MASKED == 0, MASKED == 1], axis=1).astype(int)
    y[N:] = -1
    with pytest.raises(ValueError, match="needs classes that exclude each other"):
        classifier("centroids").fit(ROWS, y)
    for head in ("mlp", nn.Linear(8, 3, bias=False)):
        with pytest.raises(ValueError, match=r"weights and biases of a linear head"):
            classifier("centroids", head=head).fit(ROWS, MASKED)
    for bad in ({"min_gap": -1}, {"prior": -1}):
        with pytest.raises(ValueError, match=r"must be at least 0\. Got -1"):
            classifier(Centroids(**bad)).fit(ROWS, MASKED)
    model = classifier("none", freeze="all").fit(ROWS, MASKED)
    with pytest.raises(ValueError, match="needs the moments of the features"):
        model.set_params(method="centroids").adapt(TARGET)
