"""Methods with a discriminator between the domains: DANN and CDAN."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.compute import seeded
from sktransfer.training import AdaptationMethod

_HIDDEN = 256
_MOST_PRODUCTS = 4096  # features times classes; with more, random projections are used
_RANDOM_PRODUCTS = 1024


class DANN(AdaptationMethod):
    """Domain-adversarial training: features that hide their domain from a classifier.

    Features are standardised per batch before the discriminator. Its gradient is
    reversed for the features, times a factor that rises from 0 to nearly 1 during
    training.

    Parameters
    ----------
    weight : float, default=1.0
        Factor of the objective in the loss.

    See Also
    --------
    CDAN : The discriminator also gets the predictions.

    References
    ----------
    Y. Ganin et al. (2016). Domain-Adversarial Training of Neural Networks.
    https://arxiv.org/abs/1505.07818
    """

    name = "dann"
    needs_stages = True
    lr_schedule = "annealed"

    def make_objective(
        self, n_features: int, n_outputs: int, is_multilabel: bool, seed: int
    ) -> nn.Module:
        """Return the loss of a domain discriminator on features."""
        with seeded(seed):
            return _Adversarial(DomainAdversary(n_features))


class CDAN(AdaptationMethod):
    """Conditional domain adversary: a discriminator of features and predictions.

    The discriminator gets the products of features and probabilities or, if these are
    more than 4,096, the products of 1,024 random projections of both. Samples with
    confident predictions have larger weights. All else is as in :class:`DANN`.

    Parameters
    ----------
    weight : float, default=1.0
        Factor of the objective in the loss.

    See Also
    --------
    DANN : The discriminator gets the features alone.

    References
    ----------
    M. Long et al. (2018). Conditional Adversarial Domain Adaptation.
    https://arxiv.org/abs/1705.10667
    """

    name = "cdan"
    needs_stages = True
    needs_classes = True
    lr_schedule = "annealed"

    def make_objective(
        self, n_features: int, n_outputs: int, is_multilabel: bool, seed: int
    ) -> nn.Module:
        """Return the loss of a domain discriminator on features and predictions."""
        with seeded(seed):
            return _Conditional(ConditionalAdversary(n_features, n_outputs))


class _Adversarial(nn.Module):
    def __init__(self, adversary):
        super().__init__()
        self.adversary = adversary

    def forward(self, source, target, progress):
        pair = _standardised(source.features, target.features)
        return self.adversary(*pair, adversarial_ramp(progress))


class _Conditional(_Adversarial):
    def forward(self, source, target, progress):
        pair = _standardised(source.features, target.features)
        pair = zip(pair, (source.scores, target.scores), strict=True)
        return self.adversary(*pair, adversarial_ramp(progress))


def _standardised(source, target):
    """Standardise features, as the initial weights of a discriminator expect."""
    both = torch.cat([source, target]).detach()
    mean, std = both.mean(0), both.std(0).clamp_min(1e-5)
    return [(features - mean) / std for features in (source, target)]


def adversarial_ramp(progress):
    """Return ``2 / (1 + exp(-10 p)) - 1``, from 0 to nearly 1 (Ganin et al. 2016)."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.factor * gradient, None


def reverse_gradient(x: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    """Gradient reversal: identity forward, gradient times ``-factor`` backward."""
    return _Reverse.apply(x, factor)


class DomainAdversary(nn.Module):
    """Discriminator between the domains, whose gradient is reversed for the features.

    It has two hidden layers.
    """

    def __init__(self, n_features: int, hidden: int = _HIDDEN):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, source, target, factor=1.0, weights=(None, None)):
        """Compute the loss of the discriminator for features (n, d) and (m, d).

        The loss is the mean of the cross-entropies of both domains, which is log 2 for
        a discriminator that is no better than chance. The reversed gradient is
        multiplied by `factor`. `weights` holds sample weights (n,) and (m,), or None
        for equal weights.
        """
        losses = [
            self._cross_entropy(reverse_gradient(features, factor), label, weight)
            for features, label, weight in zip(
                (source, target), (1.0, 0.0), weights, strict=True
            )
        ]
        return sum(losses) / 2

    def _cross_entropy(self, features, label, weight):
        found = self.layers(features)[:, 0]  # (n,)
        return F.binary_cross_entropy_with_logits(
            found, torch.full_like(found, label), weight
        )


class ConditionalAdversary(nn.Module):
    """Discriminator between the domains by products of features and predictions."""

    def __init__(self, n_features: int, n_classes: int, hidden: int = _HIDDEN):
        super().__init__()
        n_products = n_features * n_classes
        self.is_random = n_products > _MOST_PRODUCTS
        if self.is_random:
            n_products = _RANDOM_PRODUCTS
            self.register_buffer("of_features", torch.randn(n_features, n_products))
            self.register_buffer("of_classes", torch.randn(n_classes, n_products))
        self.adversary = DomainAdversary(n_products, hidden)

    def condition(self, features, scores):
        """Multiply features by probabilities, without a gradient for the latter."""
        probabilities = torch.softmax(scores.detach(), 1)
        if not self.is_random:
            return (features[:, :, None] * probabilities[:, None]).flatten(1)
        products = (features @ self.of_features) * (probabilities @ self.of_classes)
        return products / math.sqrt(products.shape[1])

    def forward(self, source, target, factor=1.0):
        """Compute the loss of the discriminator from pairs of features and scores."""
        products = [self.condition(*domain) for domain in (source, target)]
        weights = [entropy_weights(scores) for _, scores in (source, target)]
        return self.adversary(*products, factor, weights)


def entropy_weights(scores):
    """Weigh samples by ``1 + exp(-entropy)`` of their predictions, with mean 1."""
    log_p = torch.log_softmax(scores.detach(), 1)
    weights = 1 + torch.exp((log_p.exp() * log_p).sum(1))
    return weights / weights.mean()
