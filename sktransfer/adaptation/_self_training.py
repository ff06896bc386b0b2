"""Methods that learn from predictions for the target: MCC and pseudo-labels."""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional as F

from sktransfer.adaptation._adversarial import adversarial_ramp
from sktransfer.training import AdaptationMethod


class MCC(AdaptationMethod):
    """Minimum class confusion: predictions for the target that confuse few classes.

    The confusion of two classes is the sum over samples of the product of their
    predicted probabilities. The objective is the share of a class's confusion that is
    with other classes, averaged over the classes. Samples with confident predictions
    have larger weights.

    Parameters
    ----------
    weight : float, default=1.0
        Factor of the objective in the loss.
    temperature : float, default=2.5
        Divisor of the scores before the softmax; larger values make predictions less
        confident.

    See Also
    --------
    PseudoLabels : Trains on confident predictions.

    References
    ----------
    Y. Jin et al. (2020). Minimum Class Confusion for Versatile Domain Adaptation.
    https://arxiv.org/abs/1912.03699

    Examples
    --------
    >>> from sktransfer.adaptation import MCC, DomainAdaptedClassifier
    >>> DomainAdaptedClassifier(method=MCC(temperature=2.0))
    DomainAdaptedClassifier(method=MCC(temperature=2.0))
    """

    name = "mcc"
    needs_classes = True

    def __init__(self, *, weight: float = 1.0, temperature: float = 2.5):
        super().__init__(weight=weight)
        self.temperature = temperature

    def make_objective(
        self, n_features: int, n_outputs: int, is_multilabel: bool, seed: int
    ) -> Callable:
        """Return the class confusion of the target."""
        return partial(_confusion, temperature=self.temperature)


def _confusion(source, target, progress, temperature):
    return class_confusion_loss(target.scores, temperature)


def class_confusion_loss(
    scores: torch.Tensor, temperature: float = 2.5
) -> torch.Tensor:
    """Compute the class confusion, in [0, 1), from logits (n, k)."""
    scores = scores / temperature
    weights = 1 + torch.exp(-entropy(scores)).detach()
    weights = weights * len(scores) / weights.sum()  # (n,)
    probabilities = torch.softmax(scores, 1)
    confusion = (probabilities * weights[:, None]).T @ probabilities  # (k, k)
    confusion = confusion / confusion.sum(1, keepdim=True).clamp_min(1e-12)
    return 1 - confusion.diagonal().mean()


def entropy(scores: torch.Tensor) -> torch.Tensor:
    """Compute the entropies (n,) of predictions in nats, from logits (n, k)."""
    return -(torch.softmax(scores, 1) * torch.log_softmax(scores, 1)).sum(1)


class PseudoLabels(AdaptationMethod):
    """Pseudo-labels: use confident predictions for the target as labels.

    Their weight rises from 0 to nearly 1 during training, since early predictions are
    the least reliable.

    Parameters
    ----------
    weight : float, default=1.0
        Factor of the objective in the loss.
    confidence : float, default=0.9
        Minimum probability of a prediction that is used as a label, in [0, 1].

    See Also
    --------
    MCC : Uses all predictions for the target.

    References
    ----------
    D.-H. Lee (2013). Pseudo-Label: The Simple and Efficient Semi-Supervised Learning
    Method for Deep Neural Networks. ICML Workshop.

    K. Sohn et al. (2020). FixMatch: Simplifying Semi-Supervised Learning with
    Consistency and Confidence. https://arxiv.org/abs/2001.07685

    Examples
    --------
    >>> from sktransfer.adaptation import DomainAdaptedClassifier, PseudoLabels
    >>> DomainAdaptedClassifier(method=PseudoLabels(confidence=0.8))
    DomainAdaptedClassifier(method=PseudoLabels(confidence=0.8))
    """

    name = "pseudo_label"
    needs_classes = True

    def __init__(self, *, weight: float = 1.0, confidence: float = 0.9):
        super().__init__(weight=weight)
        self.confidence = confidence

    def make_objective(
        self, n_features: int, n_outputs: int, is_multilabel: bool, seed: int
    ) -> Callable:
        """Return the cross-entropy of the target samples with their pseudo-labels."""
        if not 0 <= self.confidence <= 1:
            raise ValueError(
                f"`confidence` must be in [0, 1]. Got {self.confidence!r}."
            )
        return partial(_pseudo_labels, confidence=self.confidence)


def _pseudo_labels(source, target, progress, confidence):
    loss = pseudo_label_loss(target.scores, confidence)
    return adversarial_ramp(progress) * loss


def pseudo_label_loss(scores: torch.Tensor, confidence: float) -> torch.Tensor:
    """Sum the cross-entropies of confident logits (n, k), divided by n."""
    best, labels = torch.softmax(scores.detach(), 1).max(1)  # (n,), (n,)
    losses = F.cross_entropy(scores, labels, reduction="none")
    return torch.where(best >= confidence, losses, 0.0).mean()
