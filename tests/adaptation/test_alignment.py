from functools import partial

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist
from torch.autograd import gradcheck

from sktransfer.adaptation import CORAL, JMMD, MMD
from sktransfer.adaptation._alignment import (
    _covariance,
    coral_loss,
    gaussian_kernels,
    joint_mmd_loss,
    mmd_loss,
)
from sktransfer.training import DomainBatch

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(6, 3, generator=GENERATOR, dtype=torch.float64)
Y = 2 * torch.randn(5, 3, generator=GENERATOR, dtype=torch.float64) + 1
BOTH = torch.cat([X, Y])


def reference_kernel(x):
    """Compute the kernels with scipy."""
    squared = cdist(x, x, "sqeuclidean")
    pairs = np.sort(pdist(x, "sqeuclidean"))
    median = pairs[(len(pairs) - 1) // 2]  # torch's is the lower one
    return np.mean(
        [np.exp(-squared / (w * median)) for w in 2.0 ** np.arange(-3, 2)], 0
    )


def discrepancy(kernel, n):
    signs = np.where(np.arange(len(kernel)) < n, 1 / n, -1 / (len(kernel) - n))
    return signs @ kernel @ signs


def test_kernels_equal_scipy():
    np.testing.assert_allclose(gaussian_kernels(BOTH), reference_kernel(BOTH))


def test_kernels_of_equal_rows_are_one():
    assert torch.equal(gaussian_kernels(torch.full((3, 2), 7.0)), torch.ones(3, 3))


def test_kernels_of_distant_rows_are_accurate():
    near = gaussian_kernels(BOTH.float())
    torch.testing.assert_close(gaussian_kernels(BOTH.float() + 64), near)


def test_loss_equals_the_formula():
    expected = discrepancy(reference_kernel(BOTH), 6)
    assert mmd_loss(X, Y).item() == pytest.approx(expected)


def test_joint_loss_equals_the_formula():
    kernels = reference_kernel(BOTH) * reference_kernel(BOTH[:, :1])
    found = joint_mmd_loss([X, X[:, :1]], [Y, Y[:, :1]])
    assert found.item() == pytest.approx(discrepancy(kernels, 6))


def test_joint_loss_of_one_layer_is_the_loss():
    torch.testing.assert_close(joint_mmd_loss([X], [Y]), mmd_loss(X, Y))


@pytest.mark.parametrize("rows", [X, torch.cat([X, X])], ids=["once", "twice"])
def test_loss_of_equal_distributions_is_zero(rows):
    assert mmd_loss(X, rows).item() == pytest.approx(0, abs=1e-12)
    assert joint_mmd_loss([X, X], [rows, rows]).item() == pytest.approx(0, abs=1e-12)


def test_kernel_of_a_given_bandwidth():
    expected = np.exp(-cdist(BOTH, BOTH, "sqeuclidean") / 1.68)
    np.testing.assert_allclose(gaussian_kernels(BOTH, 1.68), expected)
    found = joint_mmd_loss([X], [Y], bandwidths=[1.68])
    assert found.item() == pytest.approx(discrepancy(expected, 6))


def test_small_differences_are_accurate():
    near = torch.cat([BOTH, BOTH + 1e-2 * BOTH.flip(0)])
    rows = torch.cat([near, near.new_full((1, 3), 1000.0)]).float()
    expected = reference_kernel(rows.double())
    np.testing.assert_allclose(gaussian_kernels(rows), expected, rtol=1e-5, atol=1e-9)


def test_rounding_has_no_loss():
    rows = torch.ones(8, 4)
    rounded = rows * (1 + torch.finfo(rows.dtype).eps * (torch.arange(8) % 2)[:, None])
    assert mmd_loss(rows, rounded) < 0.05 < mmd_loss(rows, 1.001 * rounded)


@pytest.mark.parametrize("seed", range(3))
def test_loss_is_never_negative(seed):
    rows = torch.randn(64, 3, generator=torch.Generator().manual_seed(seed))
    order = torch.randperm(64, generator=torch.Generator().manual_seed(seed))
    assert 0 <= mmd_loss(rows, rows[order]) < 1e-5
    assert 0 <= joint_mmd_loss([rows], [rows[order]]) < 1e-5


def test_loss_is_invariant_to_order_shift_scale_and_rotation():
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=GENERATOR).double())[0]
    expected = mmd_loss(X, Y)
    torch.testing.assert_close(mmd_loss(Y.flip(0), X), expected)
    torch.testing.assert_close(mmd_loss(9 * X - 3, 9 * Y - 3), expected)
    torch.testing.assert_close(mmd_loss(X @ rotation, Y @ rotation), expected)


def test_loss_grows_with_the_distance():
    losses = [mmd_loss(X, X + shift).item() for shift in (0, 1, 2, 4)]
    assert losses == sorted(losses) and losses[-1] > 0.5


def test_gradients_are_those_of_finite_differences(monkeypatch):
    # No gradient goes through the median, which finite differences would move.
    found = mmd_loss.__globals__  # of this very function: doctests import it again
    monkeypatch.setitem(found, "_bandwidth", lambda x, d: d.new_tensor(3.0))
    pair = X.clone().requires_grad_(), Y.clone().requires_grad_()
    assert gradcheck(mmd_loss, pair)
    assert gradcheck(lambda x, y: joint_mmd_loss([x, x**2], [y, y**2]), pair)
    fixed = partial(joint_mmd_loss, bandwidths=(None, 1.68))
    assert gradcheck(lambda x, y: fixed([x, x**2], [y, y**2]), pair)


# Covariances


def test_covariance_equals_numpy():
    np.testing.assert_allclose(_covariance(X), np.cov(X.T))


def test_covariance_of_one_row_is_zero():
    assert torch.equal(_covariance(X[:1]), torch.zeros(3, 3, dtype=torch.float64))


def test_coral_loss_equals_the_formula():
    distance = np.linalg.norm(np.cov(X.T) - np.cov(Y.T), "fro") ** 2
    assert coral_loss(X, Y).item() == pytest.approx(distance / (4 * 3**2))


def test_coral_loss_of_equal_sets_is_zero():
    assert coral_loss(X, X).item() == 0


def test_coral_loss_is_invariant_to_order_shift_and_rotation():
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=GENERATOR).double())[0]
    expected = coral_loss(X, Y)
    torch.testing.assert_close(coral_loss(Y, X), expected)
    torch.testing.assert_close(coral_loss(X.flip(0), Y - 3), expected)
    torch.testing.assert_close(coral_loss(X @ rotation, Y @ rotation), expected)


def test_coral_gradients_are_those_of_finite_differences():
    assert gradcheck(coral_loss, (X.clone().requires_grad_(), Y.requires_grad_()))


# The methods


def seen(n, shift=0.0):
    features = torch.randn(n, 5, generator=GENERATOR, dtype=torch.float64) + shift
    return DomainBatch(
        features, torch.randn(n, 3, generator=GENERATOR, dtype=torch.float64)
    )


OWN, OTHERS = seen(8), seen(6, shift=1.0)


def value(method, source=OWN, target=OTHERS, is_multilabel=False):
    return method.make_objective(5, 3, is_multilabel, 0)(source, target, 0.5)


@pytest.mark.parametrize("method", [CORAL(), MMD(), JMMD()], ids=lambda m: m.name)
def test_equal_domains_have_no_distance(method):
    assert value(method, OWN, OWN).item() == pytest.approx(0, abs=1e-12)
    assert value(method).item() > 0.01


def test_covariances_are_relative():
    zero = torch.zeros_like(OWN.features[:1])
    parts = coral_loss(OWN.features, zero) + coral_loss(OTHERS.features, zero)
    expected = coral_loss(OWN.features, OTHERS.features) / parts
    torch.testing.assert_close(value(CORAL()), expected)
    larger = [DomainBatch(10 * s.features, s.scores) for s in (OWN, OTHERS)]
    torch.testing.assert_close(value(CORAL(), *larger), expected)


@pytest.mark.parametrize("is_multilabel", [False, True])
def test_objectives_are_the_losses(is_multilabel):
    source, target = OWN.features, OTHERS.features
    torch.testing.assert_close(value(MMD()), mmd_loss(source, target))
    link = torch.sigmoid if is_multilabel else lambda s: torch.softmax(s, 1)
    layers = [(s.features, link(s.scores)) for s in (OWN, OTHERS)]
    expected = joint_mmd_loss(*layers, bandwidths=(None, 1.68))
    found = value(JMMD(), is_multilabel=is_multilabel)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("share", [2, 4])
@pytest.mark.parametrize("scale", [5, 20])
def test_joint_mmd_of_confident_predictions_is_not_noise(share, scale):
    def confident(noise):
        is_first = (torch.arange(32) % share == 0)[:, None]
        logits = torch.where(is_first, 1.0, -1.0) * torch.tensor([1.0, -1.0])
        logits = logits * scale * (1 + noise * torch.rand(32, 1, generator=GENERATOR))
        return logits.double()

    features = torch.ones(32, 4, dtype=torch.float64)
    source, target = (DomainBatch(features, confident(noise)) for noise in (0.1, 0.2))
    exact = value(JMMD(), source, target)
    single = [
        DomainBatch(s.features.float(), s.scores.float()) for s in (source, target)
    ]
    assert 0 <= exact < 1e-3
    found = value(JMMD(), *single)
    torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=1e-6)
