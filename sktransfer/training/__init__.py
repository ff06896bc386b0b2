"""From activations to a trained suffix and head."""

from sktransfer.training._adaptation import (
    AdaptationContext,
    AdaptationMethod,
    Adapted,
)
from sktransfer.training._adapter import add_lora, merge_lora
from sktransfer.training._augment import (
    ACTIVATION_AUGMENTATIONS,
    ActivationAugment,
)
from sktransfer.training._average import WeightAverage
from sktransfer.training._best import BestWeights
from sktransfer.training._discriminant import (
    class_means,
    in_span,
    lda_predictions,
    shrunk_covariance,
    whiten,
)
from sktransfer.training._divide import is_divisible
from sktransfer.training._freeze import resolve_freeze, stages_above
from sktransfer.training._groups import (
    Augmentation,
    EarlyStopping,
    LoRA,
    Pooling,
    TrainingRecipe,
)
from sktransfer.training._heads import (
    HEADS,
    CosineHead,
    head_from_linear,
    make_head,
)
from sktransfer.training._holdout import hold_out
from sktransfer.training._loss import (
    LOSSES,
    CheckedLoss,
    RegressionLoss,
    WeightedLoss,
    cross_entropy,
)
from sktransfer.training._mix import Mix
from sktransfer.training._net import Data, SuffixNet, restore_net, train
from sktransfer.training._network import Network
from sktransfer.training._objective import Objective, Seen
from sktransfer.training._online import (
    Online,
    assume_online,
    begin_online,
    go_on_online,
    is_narrow,
)
from sktransfer.training._optimiser import parameter_groups
from sktransfer.training._outputs import Probabilities
from sktransfer.training._penalty import StartingPoint
from sktransfer.training._probe import (
    fit_multilabel_probe,
    fit_probe,
    fit_ridge,
)
from sktransfer.training._probe_search import (
    middle_alpha,
    middle_C,
    search_alpha,
    search_C,
    search_multilabel_C,
)
from sktransfer.training._put_back import put_back_on_error
from sktransfer.training._recipe import Recipe
from sktransfer.training._rules import (
    LEVELS,
    LITERATURE,
    MEASURED,
    Level,
    choose_level,
)
from sktransfer.training._saver import Saver
from sktransfer.training._schedule import LR_SCHEDULES, schedule_callback
from sktransfer.training._solved_head import (
    HeadData,
    Probe,
    Solution,
    head_data,
    last_layer,
)
from sktransfer.training._unfreeze import unfreezing_phases
from sktransfer.training._weights import merge_equal, weigh_classes

__all__ = [
    "ACTIVATION_AUGMENTATIONS",
    "HEADS",
    "LEVELS",
    "LITERATURE",
    "LOSSES",
    "LR_SCHEDULES",
    "MEASURED",
    "ActivationAugment",
    "AdaptationContext",
    "AdaptationMethod",
    "Adapted",
    "Augmentation",
    "BestWeights",
    "CheckedLoss",
    "CosineHead",
    "Data",
    "EarlyStopping",
    "HeadData",
    "Level",
    "LoRA",
    "Mix",
    "Network",
    "Objective",
    "Online",
    "Pooling",
    "Probabilities",
    "Probe",
    "Recipe",
    "RegressionLoss",
    "Saver",
    "Seen",
    "Solution",
    "StartingPoint",
    "SuffixNet",
    "TrainingRecipe",
    "WeightAverage",
    "WeightedLoss",
    "add_lora",
    "assume_online",
    "begin_online",
    "choose_level",
    "class_means",
    "cross_entropy",
    "fit_multilabel_probe",
    "fit_probe",
    "fit_ridge",
    "go_on_online",
    "head_data",
    "head_from_linear",
    "hold_out",
    "in_span",
    "is_divisible",
    "is_narrow",
    "last_layer",
    "lda_predictions",
    "make_head",
    "merge_equal",
    "merge_lora",
    "middle_C",
    "middle_alpha",
    "parameter_groups",
    "put_back_on_error",
    "resolve_freeze",
    "restore_net",
    "schedule_callback",
    "search_C",
    "search_alpha",
    "search_multilabel_C",
    "shrunk_covariance",
    "stages_above",
    "train",
    "unfreezing_phases",
    "weigh_classes",
    "whiten",
]
