import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from sktransfer.adaptation import coral_loss, covariance

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(7, 3, generator=GENERATOR, dtype=torch.float64)
Y = 2 * torch.randn(5, 3, generator=GENERATOR, dtype=torch.float64) + 1


def test_covariance_is_numpys():
    np.testing.assert_allclose(covariance(X), np.cov(X.T))


def test_covariance_of_one_row_is_zero():
    assert torch.equal(covariance(X[:1]), torch.zeros(3, 3, dtype=torch.float64))


def test_loss_is_that_of_the_formula():
    distance = np.linalg.norm(np.cov(X.T) - np.cov(Y.T), "fro") ** 2
    assert coral_loss(X, Y).item() == pytest.approx(distance / (4 * 3**2))


def test_loss_of_equal_sets_is_zero():
    assert coral_loss(X, X).item() == 0


def test_loss_does_not_see_order_place_or_rotation():
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=GENERATOR).double())[0]
    expected = coral_loss(X, Y)
    torch.testing.assert_close(coral_loss(Y, X), expected)
    torch.testing.assert_close(coral_loss(X.flip(0), Y - 3), expected)
    torch.testing.assert_close(coral_loss(X @ rotation, Y @ rotation), expected)


def test_gradients_are_those_of_finite_differences():
    assert gradcheck(coral_loss, (X.clone().requires_grad_(), Y.requires_grad_()))
