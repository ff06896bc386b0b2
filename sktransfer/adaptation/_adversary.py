"""Adversaries: a discriminator of domains that features learn to deceive."""

import math

import torch
from torch import nn
from torch.nn import functional as F

__all__ = [
    "ConditionalAdversary",
    "DomainAdversary",
    "adversarial_ramp",
    "entropy",
    "entropy_weights",
    "reverse_gradient",
]

_HIDDEN = 256
_MOST_PRODUCTS = 4096  # of features and probabilities; beyond, random ones
_RANDOM_PRODUCTS = 1024


def adversarial_ramp(progress):
    """Return the weight of the adversary: from 0 to nearly 1 in the training.

    Parameters
    ----------
    progress : float
        Share of the training that is done, in [0, 1].

    Returns
    -------
    float
        ``2 / (1 + exp(-10 p)) - 1``.

    References
    ----------
    Y. Ganin et al. (2016). Domain-Adversarial Training of Neural Networks.
    https://arxiv.org/abs/1505.07818
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.factor * gradient, None


def reverse_gradient(x, factor=1.0):
    """Return x as it is; its gradient is turned round.

    Parameters
    ----------
    x : torch.Tensor
    factor : float, default=1.0
        What the gradient is multiplied by, besides -1.

    Returns
    -------
    torch.Tensor of the same shape

    References
    ----------
    Y. Ganin and V. Lempitsky (2015). Unsupervised Domain Adaptation by Backpropagation.
    https://arxiv.org/abs/1409.7495
    """
    return _Reverse.apply(x, factor)


def entropy(scores):
    """Compute the entropy of the predictions.

    Parameters
    ----------
    scores : torch.Tensor of shape (n, k)
        Logits.

    Returns
    -------
    torch.Tensor of shape (n,)
        In nats.
    """
    return -(torch.softmax(scores, 1) * torch.log_softmax(scores, 1)).sum(1)


def entropy_weights(scores):
    """Weigh samples by how certain their predictions are.

    Parameters
    ----------
    scores : torch.Tensor of shape (n, k)
        Logits.

    Returns
    -------
    torch.Tensor of shape (n,)
        ``1 + exp(-entropy)``, divided by its mean, without gradient.

    References
    ----------
    M. Long et al. (2018). Conditional Adversarial Domain Adaptation.
    https://arxiv.org/abs/1705.10667
    """
    weights = 1 + torch.exp(-entropy(scores.detach()))
    return weights / weights.mean()


class DomainAdversary(nn.Module):
    """Tell the domains of features apart; learning turns round for the features.

    Parameters
    ----------
    n_features : int
    hidden : int, default=256
        Width of its two hidden layers.

    References
    ----------
    Y. Ganin et al. (2016). Domain-Adversarial Training of Neural Networks.
    https://arxiv.org/abs/1505.07818
    """

    def __init__(self, n_features, hidden=_HIDDEN):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, source, target, factor=1.0, weights=(None, None)):
        """Compute the loss of the discriminator.

        Parameters
        ----------
        source : torch.Tensor of shape (n, n_features)
        target : torch.Tensor of shape (m, n_features)
        factor : float, default=1.0
            Of the gradient that is turned round.
        weights : pair of torch.Tensor of shape (n,) and (m,), or of None
            Of samples; by default all weigh the same.

        Returns
        -------
        torch.Tensor of shape ()
            Mean of the cross-entropies of both domains: log 2 for one that knows
            nothing.
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
    """Tell the domains apart by features and predictions together.

    The discriminator sees the products of features and probabilities; where there are
    more than 4,096 of them, 1,024 products of random projections of the two. Samples
    whose predictions are certain weigh more.

    Parameters
    ----------
    n_features, n_classes : int
    hidden : int, default=256
        Width of the two hidden layers.

    References
    ----------
    M. Long et al. (2018). Conditional Adversarial Domain Adaptation.
    https://arxiv.org/abs/1705.10667
    """

    def __init__(self, n_features, n_classes, hidden=_HIDDEN):
        super().__init__()
        n_products = n_features * n_classes
        self.is_random = n_products > _MOST_PRODUCTS
        if self.is_random:
            n_products = _RANDOM_PRODUCTS
            self.register_buffer("of_features", torch.randn(n_features, n_products))
            self.register_buffer("of_classes", torch.randn(n_classes, n_products))
        self.adversary = DomainAdversary(n_products, hidden)

    def condition(self, features, scores):
        """Multiply features with probabilities.

        Parameters
        ----------
        features : torch.Tensor of shape (n, n_features)
        scores : torch.Tensor of shape (n, n_classes)
            Logits. No gradient goes through them.

        Returns
        -------
        torch.Tensor of shape (n, n_products)
        """
        probabilities = torch.softmax(scores.detach(), 1)
        if not self.is_random:
            return (features[:, :, None] * probabilities[:, None]).flatten(1)
        products = (features @ self.of_features) * (probabilities @ self.of_classes)
        return products / math.sqrt(products.shape[1])

    def forward(self, source, target, factor=1.0):
        """Compute the loss of the discriminator.

        Parameters
        ----------
        source, target : pair of torch.Tensor of shape (n, n_features), (n, n_classes)
            Features and scores of a domain.
        factor : float, default=1.0
            Of the gradient that is turned round.

        Returns
        -------
        torch.Tensor of shape ()
        """
        return self.adversary(
            self.condition(*source),
            self.condition(*target),
            factor,
            weights=(entropy_weights(source[1]), entropy_weights(target[1])),
        )
