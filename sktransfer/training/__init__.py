"""From activations to a trained suffix and head."""

from sktransfer.training._augment import (
    ACTIVATION_AUGMENTATIONS,
    ActivationAugment,
)
from sktransfer.training._freeze import resolve_freeze
from sktransfer.training._net import SuffixNet, restore_net, train
from sktransfer.training._network import Network, random_head
from sktransfer.training._probe import fit_probe
from sktransfer.training._weights import merge_equal, weigh_classes

__all__ = [
    "ACTIVATION_AUGMENTATIONS",
    "ActivationAugment",
    "Network",
    "SuffixNet",
    "fit_probe",
    "merge_equal",
    "random_head",
    "resolve_freeze",
    "restore_net",
    "train",
    "weigh_classes",
]
