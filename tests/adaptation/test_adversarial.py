import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy
from torch.autograd import gradcheck
from torch.nn import functional as F

from sktransfer.adaptation import CDAN, DANN
from sktransfer.adaptation._adversarial import (
    ConditionalAdversary,
    DomainAdversary,
    adversarial_ramp,
    entropy_weights,
    reverse_gradient,
)
from sktransfer.training import DomainBatch

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(6, 3, generator=GENERATOR, dtype=torch.float64)
Y = torch.randn(5, 3, generator=GENERATOR, dtype=torch.float64) + 1
SCORES = 3 * torch.randn(6, 4, generator=GENERATOR, dtype=torch.float64)
OTHERS = 3 * torch.randn(5, 4, generator=GENERATOR, dtype=torch.float64)


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


def test_entropy_weights_are_those_of_the_paper():
    raw = 1 + np.exp(-scipy_entropy(softmax(SCORES.numpy(), axis=1), axis=1))
    scores = SCORES.clone().requires_grad_()
    found = entropy_weights(scores)
    np.testing.assert_allclose(found, raw / raw.mean())
    assert not found.requires_grad


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


def test_conditional_adversary_multiplies_features_and_probabilities():
    adversary = make(ConditionalAdversary, 3, 4)
    probabilities = torch.softmax(SCORES, 1)
    expected = torch.einsum("ni,nj->nij", X, probabilities).reshape(6, 12)
    torch.testing.assert_close(adversary.condition(X, SCORES), expected)
    assert not adversary.is_random


def test_random_products_preserve_inner_products_on_average():
    adversary = make(ConditionalAdversary, 1100, 4)
    features = torch.randn(6, 1100, generator=GENERATOR).double()
    found = adversary.condition(features, SCORES)
    assert adversary.is_random and found.shape == (6, 1024)
    p = torch.softmax(SCORES, 1)
    exact = (features @ features.T) * (p @ p.T)
    assert torch.corrcoef(torch.stack([found @ found.T, exact]).flatten(1))[0, 1] > 0.9


def test_conditional_adversary_weighs_certain_samples_more():
    adversary = make(ConditionalAdversary, 3, 4)
    found = adversary((X, SCORES), (Y, OTHERS))
    total = 0
    for features, scores, sign in [(X, SCORES, -1), (Y, OTHERS, 1)]:
        logits = adversary.adversary.layers(adversary.condition(features, scores))
        losses = F.softplus(sign * logits[:, 0])
        total = total + (entropy_weights(scores) * losses).mean() / 2
    torch.testing.assert_close(found, total)


def test_conditional_adversary_leaves_the_scores_alone():
    adversary, scores = make(ConditionalAdversary, 3, 4), SCORES.clone()
    features = X.clone().requires_grad_()
    adversary((features, scores.requires_grad_()), (Y, OTHERS)).backward()
    assert scores.grad is None and features.grad.abs().sum() > 0


@pytest.mark.parametrize("method", [DANN(), CDAN()], ids=lambda m: m.name)
def test_objectives_reverse_gradients_increasingly(method):
    objective = method.make_objective(3, 4, False, 0).double()
    gradients = []
    for progress in (0.0, 0.1, 1.0):
        features = X.clone().requires_grad_()
        objective(
            DomainBatch(features, SCORES), DomainBatch(Y, OTHERS), progress
        ).backward()
        gradients.append(features.grad)
    ramp = adversarial_ramp(0.1) / adversarial_ramp(1.0)
    assert gradients[0].abs().sum() == 0
    torch.testing.assert_close(gradients[1], gradients[2] * ramp)


@pytest.mark.parametrize("method", [DANN(), CDAN()], ids=lambda m: m.name)
def test_weights_of_discriminators_depend_on_the_seed(method):
    first, again, other = (method.make_objective(3, 4, False, s) for s in (0, 0, 1))
    first, again, other = ([*found.parameters()] for found in (first, again, other))
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))
