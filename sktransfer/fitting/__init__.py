"""The course of one fit: from samples and a split backbone to a trained network."""

from sktransfer.fitting._boundary import (
    LEVELS,
    LITERATURE,
    MEASURED,
    Probed,
    choose_boundary,
    choose_level,
    resolve_freeze,
    rows_to_probe,
)
from sktransfer.fitting._diagnosis import ENOUGH_FOR_DEPTH, check_depth
from sktransfer.fitting._early_stopping import divide
from sktransfer.fitting._halving import (
    Evaluation,
    evaluate_candidates,
    order,
    search_results,
)
from sktransfer.fitting._settle import EPOCHS, choose_epochs, settle
from sktransfer.fitting._shared_docs import shares_docs
from sktransfer.fitting._split_backbone import (
    SplitBackbone,
    check_unchanged,
    describe_network,
    later_seed,
    split_backbone,
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
    "EPOCHS",
    "LEVELS",
    "LITERATURE",
    "MEASURED",
    "Adaptation",
    "EarlierTraining",
    "Evaluation",
    "FitOptions",
    "Probed",
    "SplitBackbone",
    "Trainer",
    "check_depth",
    "check_unchanged",
    "check_validation",
    "choose_boundary",
    "choose_epochs",
    "choose_level",
    "describe_network",
    "divide",
    "evaluate_candidates",
    "later_seed",
    "order",
    "resolve_freeze",
    "rows_to_probe",
    "search_results",
    "settle",
    "shares_docs",
    "split_backbone",
]
