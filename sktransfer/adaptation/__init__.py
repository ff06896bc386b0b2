"""Domain adaptation: labelled source samples, unlabelled target samples."""

from sktransfer.adaptation._a_distance import proxy_a_distance
from sktransfer.adaptation._adversary import (
    ConditionalAdversary,
    DomainAdversary,
    adversarial_ramp,
    entropy,
    entropy_weights,
    reverse_gradient,
)
from sktransfer.adaptation._classifier import DomainAdaptedClassifier
from sktransfer.adaptation._coral import coral_loss, covariance
from sktransfer.adaptation._style_steps import mix_amplitudes
from sktransfer.adaptation._gap import domain_gap
from sktransfer.adaptation._gap_display import GapDisplay
from sktransfer.adaptation._image_statistics import image_statistics
from sktransfer.adaptation._mmd import gaussian_kernels, joint_mmd_loss, mmd_loss
from sktransfer.adaptation._mmd_test import MMDResult, mmd_test
from sktransfer.adaptation._regressor import DomainAdaptedRegressor
from sktransfer.adaptation._self_training import (
    centroid_labels,
    class_confusion_loss,
    information_loss,
    pseudo_label_loss,
)
from sktransfer.adaptation._style import TargetStyle

__all__ = [
    "ConditionalAdversary",
    "DomainAdaptedClassifier",
    "DomainAdaptedRegressor",
    "DomainAdversary",
    "GapDisplay",
    "MMDResult",
    "TargetStyle",
    "adversarial_ramp",
    "centroid_labels",
    "class_confusion_loss",
    "coral_loss",
    "covariance",
    "domain_gap",
    "entropy",
    "entropy_weights",
    "gaussian_kernels",
    "image_statistics",
    "information_loss",
    "joint_mmd_loss",
    "mix_amplitudes",
    "mmd_loss",
    "mmd_test",
    "proxy_a_distance",
    "pseudo_label_loss",
    "reverse_gradient",
]
