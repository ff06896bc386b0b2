"""From activations to a trained suffix and head."""

from sktransfer.training._adapter import add_lora, merge_lora
from sktransfer.training._augment import ACTIVATION_AUGMENTATIONS, ActivationAugment
from sktransfer.training._average import WeightAverage
from sktransfer.training._freeze import resolve_freeze
from sktransfer.training._heads import HEADS, CosineHead, head_from_linear, make_head
from sktransfer.training._holdout import hold_out
from sktransfer.training._loss import (
    LOSSES,
    RegressionLoss,
    WeightedLoss,
    cross_entropy,
)
from sktransfer.training._lr_finder import LearningRateCurve, find_lr
from sktransfer.training._mix import Mix
from sktransfer.training._net import SuffixNet, restore_net, train
from sktransfer.training._network import Network, random_head
from sktransfer.training._penalty import StartingPoint
from sktransfer.training._probe import fit_probe
from sktransfer.training._schedule import LR_SCHEDULES, schedule_callback
from sktransfer.training._unfreeze import unfreezing_phases
from sktransfer.training._weights import merge_equal, weigh_classes

__all__ = [
    "ACTIVATION_AUGMENTATIONS",
    "HEADS",
    "LOSSES",
    "LR_SCHEDULES",
    "ActivationAugment",
    "CosineHead",
    "LearningRateCurve",
    "Mix",
    "Network",
    "RegressionLoss",
    "StartingPoint",
    "SuffixNet",
    "WeightAverage",
    "WeightedLoss",
    "add_lora",
    "cross_entropy",
    "find_lr",
    "fit_probe",
    "head_from_linear",
    "hold_out",
    "make_head",
    "merge_equal",
    "merge_lora",
    "random_head",
    "resolve_freeze",
    "restore_net",
    "schedule_callback",
    "train",
    "unfreezing_phases",
    "weigh_classes",
]
