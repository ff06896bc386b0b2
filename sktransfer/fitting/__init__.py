"""The course of one fit: from samples and a split backbone to a trained network."""

from sktransfer.fitting._diagnosis import ENOUGH_FOR_DEPTH, check_depth
from sktransfer.fitting._identity import check_unchanged, describe_network
from sktransfer.fitting._shared_docs import shares_docs
from sktransfer.fitting._split_backbone import (
    LabelledSamples,
    SplitBackbone,
    later_seed,
    sort_by_content,
    split_backbone,
    targets_of,
)
from sktransfer.fitting._target_domain import Adaptation
from sktransfer.fitting._trainer import (
    EarlierTraining,
    FitOptions,
    Trainer,
    check_validation,
)

__all__ = [
    "ENOUGH_FOR_DEPTH",
    "Adaptation",
    "EarlierTraining",
    "FitOptions",
    "LabelledSamples",
    "SplitBackbone",
    "Trainer",
    "check_depth",
    "check_unchanged",
    "check_validation",
    "describe_network",
    "later_seed",
    "shares_docs",
    "sort_by_content",
    "split_backbone",
    "targets_of",
]
