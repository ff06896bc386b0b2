import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional as F

from sktransfer.adaptation import DANN
from sktransfer.adaptation._adversarial import (
    DomainAdversary,
    adversarial_ramp,
    reverse_gradient,
)
from sktransfer.training import DomainBatch

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(6, 3, generator=GENERATOR, dtype=torch.float64)
Y = torch.randn(5, 3, generator=GENERATOR, dtype=torch.float64) + 1


def make(kind, *sizes, **settings):
    torch.manual_seed(0)
    return kind(*sizes, **settings).double()


@pytest.mark.parametrize(
    ("progress", "expected"), [(0, 0.0), (0.1, math.tanh(0.5)), (1, math.tanh(5))]
)
def test_adversarial_ramp_is_that_of_the_paper(progress, expected):
    assert adversarial_ramp(progress) == pytest.approx(expected)


def test_reverse_gradient_changes_the_gradient_alone():
    x = X.clone().requires_grad_()
    reversed_ = reverse_gradient(x, 0.5)
    assert torch.equal(reversed_, X)
    (reversed_**3).sum().backward()
    torch.testing.assert_close(x.grad, -0.5 * 3 * X**2)


def test_adversary_at_chance_has_a_loss_of_log_2():
    adversary = make(DomainAdversary, 3)
    torch.nn.init.zeros_(adversary.layers[-1].weight)
    torch.nn.init.zeros_(adversary.layers[-1].bias)
    assert adversary(X, Y).item() == pytest.approx(math.log(2))


def test_adversary_gives_both_domains_the_same_weight():
    adversary = make(DomainAdversary, 3)
    p, q = (torch.sigmoid(adversary.layers(v)) for v in (X, Y))
    expected = -(p.log().mean() + (1 - q).log().mean()) / 2
    torch.testing.assert_close(adversary(X, Y), expected)


def test_adversary_reverses_the_gradients_of_features_alone():
    adversary, x = make(DomainAdversary, 3), X.clone().requires_grad_()
    adversary(x, Y, factor=0.5).backward()
    own = [p.grad.clone() for p in adversary.parameters()]
    reversed_, x.grad = x.grad, None
    adversary.zero_grad()
    p, q = adversary.layers(x), adversary.layers(Y)
    plain = F.softplus(-p).mean() + F.softplus(q).mean()
    (plain / 2).backward()
    torch.testing.assert_close(reversed_, -0.5 * x.grad)
    for found, parameter in zip(own, adversary.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad)


def test_adversary_follows_the_gradient_of_finite_differences():
    adversary = make(DomainAdversary, 3, hidden=4)

    def loss(x, y):  # reversed twice over
        return adversary(x, y, factor=-1.0)

    assert gradcheck(loss, (X.clone().requires_grad_(), Y.clone().requires_grad_()))


def test_objective_reverses_gradients_increasingly():
    objective = DANN().make_objective(3, 4, False, 0).double()
    gradients = []
    for progress in (0.0, 0.1, 1.0):
        features = X.clone().requires_grad_()
        objective(
            DomainBatch(features, None), DomainBatch(Y, None), progress
        ).backward()
        gradients.append(features.grad)
    ramp = adversarial_ramp(0.1) / adversarial_ramp(1.0)
    assert gradients[0].abs().sum() == 0
    torch.testing.assert_close(gradients[1], gradients[2] * ramp)


def test_weights_of_the_discriminator_depend_on_the_seed():
    first, again, other = (DANN().make_objective(3, 4, False, s) for s in (0, 0, 1))
    first, again, other = ([*found.parameters()] for found in (first, again, other))
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))
