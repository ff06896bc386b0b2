"""DANN: features whose domain a discriminator cannot recognise."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.compute import seeded
from sktransfer.training import AdaptationMethod

_HIDDEN = 256


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
    MMD : Aligns the features without a discriminator.

    Notes
    -----
    The schedules are those of the paper [1]_: the reversed gradient is multiplied by
    2 / (1 + exp(-10 p)) - 1, where p is the share of the training that is done, and
    the learning rates decay as (1 + 10 p) ** -0.75, the schedule "annealed" that
    ``lr_schedule="auto"`` selects for this method. The rest differs:

    - the optimiser is AdamW with the `weight_decay` of the estimator, instead of SGD
      with momentum;
    - learning rates start from `lr`, 0.0005 by default, instead of 0.01. The rate of
      the discriminator is five times `lr`. With the default `backbone_lr_ratio` of 0.2
      or 0.5, that is 25 or 10 times the rate of the last stage, and the rate of the
      head is five or two times that rate; both are ten times in the paper;
    - the discriminator sees standardised features, with the means and standard
      deviations of both domains in the batch.

    References
    ----------
    .. [1] Y. Ganin et al. (2016). Domain-Adversarial Training of Neural Networks.
       https://arxiv.org/abs/1505.07818

    Examples
    --------
    >>> from sktransfer.adaptation import DANN, DomainAdaptedClassifier
    >>> DomainAdaptedClassifier(method=DANN(weight=0.5))
    DomainAdaptedClassifier(method=DANN(weight=0.5))
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


class _Adversarial(nn.Module):
    def __init__(self, adversary):
        super().__init__()
        self.adversary = adversary

    def forward(self, source, target, progress):
        pair = _standardised(source.features, target.features)
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

    def forward(self, source, target, factor=1.0):
        """Compute the loss of the discriminator for features (n, d) and (m, d).

        The loss is the mean of the cross-entropies of both domains, which is log 2 for
        a discriminator that is no better than chance. The reversed gradient is
        multiplied by `factor`.
        """
        losses = [
            self._cross_entropy(reverse_gradient(features, factor), label)
            for features, label in ((source, 1.0), (target, 0.0))
        ]
        return sum(losses) / 2

    def _cross_entropy(self, features, label):
        found = self.layers(features)[:, 0]  # (n,)
        return F.binary_cross_entropy_with_logits(found, torch.full_like(found, label))
