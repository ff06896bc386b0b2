"""Domain adaptation: from labelled source samples to an unlabelled target domain."""

from sktransfer.adaptation._adversarial import DANN
from sktransfer.adaptation._alignment import CORAL, JMMD, MMD
from sktransfer.adaptation._centroids import Centroids
from sktransfer.adaptation._classifier import DomainAdaptedClassifier
from sktransfer.adaptation._gap import domain_gap
from sktransfer.adaptation._methods import (
    NoAdaptation,
    list_methods,
    register_method,
)
from sktransfer.adaptation._random_style import RandomStyle
from sktransfer.adaptation._regressor import DomainAdaptedRegressor
from sktransfer.adaptation._self_training import MCC, PseudoLabels
from sktransfer.adaptation._source_free import SHOT, AdaBN
from sktransfer.adaptation._style import TargetStyle
from sktransfer.adaptation._two_samples import mmd_test, proxy_a_distance
from sktransfer.training import (
    AdaptationContext,
    AdaptationMethod,
    AdaptationResult,
    DomainBatch,
)

__all__ = [
    "CORAL",
    "DANN",
    "JMMD",
    "MCC",
    "MMD",
    "SHOT",
    "AdaBN",
    "AdaptationContext",
    "AdaptationMethod",
    "AdaptationResult",
    "Centroids",
    "DomainAdaptedClassifier",
    "DomainAdaptedRegressor",
    "DomainBatch",
    "PseudoLabels",
    "RandomStyle",
    "TargetStyle",
    "domain_gap",
    "list_methods",
    "mmd_test",
    "proxy_a_distance",
    "register_method",
]
