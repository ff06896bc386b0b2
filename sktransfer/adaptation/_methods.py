"""What each method of adaptation minimises besides the loss of the source."""

from functools import partial

import torch
from torch import nn

from sktransfer.adaptation._adversary import (
    ConditionalAdversary,
    DomainAdversary,
    adversarial_ramp,
)
from sktransfer.adaptation._coral import coral_loss
from sktransfer.adaptation._mmd import joint_mmd_loss, mmd_loss
from sktransfer.adaptation._self_training import (
    class_confusion_loss,
    information_loss,
    pseudo_label_loss,
)

__all__ = [
    "ADVERSARIAL",
    "CLASSIFIER_METHODS",
    "JOINT",
    "NEEDS_CLASSES",
    "NEEDS_STAGES",
    "REGRESSOR_METHODS",
    "SOURCE_FREE",
    "information",
    "make_function",
]

# Beside the target, each of these needs the source, in one training.
JOINT = ("coral", "mmd", "jmmd", "dann", "cdan", "mcc", "pseudo_label")
ADVERSARIAL = ("dann", "cdan")
SOURCE_FREE = ("adabn", "shot")
CLASSIFIER_METHODS = ("none", *SOURCE_FREE, *JOINT)
REGRESSOR_METHODS = ("none", "adabn", "coral", "mmd", "dann")
NEEDS_CLASSES = ("cdan", "mcc", "pseudo_label", "shot")
NEEDS_STAGES = ("adabn", "shot", "coral", "mmd", "jmmd", "dann", "cdan")
_OF_PROBABILITIES = 1.68  # as in the code of Long et al. (2017)


def make_function(method, n_features, n_outputs, *, confidence, independent=False):
    """Make what a method minimises.

    Parameters
    ----------
    method : str
    n_features, n_outputs : int
        Of the head.
    confidence : float
        See :func:`pseudo_label_loss`.
    independent : bool, default=False
        Whether outputs are labels that do not exclude each other.

    Returns
    -------
    callable or torch.nn.Module or None
        A function of an :class:`~sktransfer.training.Objective`; None for a method that
        adds nothing to the training.
    """
    if method == "dann":
        return _Adversarial(DomainAdversary(n_features))
    if method == "cdan":
        return _Conditional(ConditionalAdversary(n_features, n_outputs))
    if method == "pseudo_label":
        return partial(_pseudo_labels, confidence=confidence)
    return {
        "coral": _covariances,
        "mmd": _kernel_means,
        "jmmd": partial(_joint_kernel_means, independent=independent),
        "mcc": _class_confusion,
    }.get(method)


def information(own, others, progress):
    """Compute :func:`information_loss` of a batch of the target."""
    return information_loss(own.scores)


def _covariances(own, others, progress):
    """Relative to what the covariances are, in [0, 1].

    The loss itself would have its minimum where all features are zero, and is next to
    nothing in many dimensions.
    """
    source, target = own.features, others.features
    zero = torch.zeros_like(source[:1])
    whole = coral_loss(source, zero) + coral_loss(target, zero)
    return coral_loss(source, target) / whole.clamp_min(1e-12)


def _kernel_means(own, others, progress):
    return mmd_loss(own.features, others.features)


def _joint_kernel_means(own, others, progress, independent):
    layers = [
        (
            seen.features,
            seen.scores.sigmoid() if independent else seen.scores.softmax(1),
        )
        for seen in (own, others)
    ]
    return joint_mmd_loss(*layers, bandwidths=(None, _OF_PROBABILITIES))


def _class_confusion(own, others, progress):
    return class_confusion_loss(others.scores)


def _pseudo_labels(own, others, progress, confidence):
    """Ramped up, since the first predictions are the worst."""
    return adversarial_ramp(progress) * pseudo_label_loss(others.scores, confidence)


class _Adversarial(nn.Module):
    def __init__(self, adversary):
        super().__init__()
        self.adversary = adversary

    def forward(self, own, others, progress):
        pair = _standardised(own.features, others.features)
        return self.adversary(*pair, adversarial_ramp(progress))


class _Conditional(_Adversarial):
    def forward(self, own, others, progress):
        pair = _standardised(own.features, others.features)
        pair = zip(pair, (own.scores, others.scores), strict=True)
        return self.adversary(*pair, adversarial_ramp(progress))


def _standardised(source, target):
    """Bring features to the scale that a discriminator's first layer is made for."""
    both = torch.cat([source, target]).detach()
    mean, std = both.mean(0), both.std(0).clamp_min(1e-5)
    return [(features - mean) / std for features in (source, target)]
