"""Training of suffixes and heads on activations."""

from sktransfer.training._adaptation import (
    ADAPTATION_METHODS,
    AdaptationContext,
    AdaptationMethod,
    AdaptationResult,
)
from sktransfer.training._adapter import add_lora, merge_lora
from sktransfer.training._augment import (
    ACTIVATION_AUGMENTATIONS,
    ActivationAugment,
    Mix,
)
from sktransfer.training._bfloat16 import training_precision, trains_in_bfloat16
from sktransfer.training._class_weight import weigh_classes, weigh_labels
from sktransfer.training._data import (
    Data,
    FitSamples,
    LabelledActivations,
    LabelledSamples,
    head_data,
    hold_out,
    sort_by_content,
    targets_of,
)
from sktransfer.training._discriminant import (
    are_strange,
    class_means,
    exchanged_classes,
    in_span,
    lda_predictions,
    predict_views,
    shrunk_covariance,
    whiten,
)
from sktransfer.training._early_stopping import (
    EarlyStopping,
    epochs_to_wait,
)
from sktransfer.training._freeze import (
    stages_above,
    unfreezing_phases,
)
from sktransfer.training._gradients import is_divisible, mixes_samples
from sktransfer.training._heads import (
    HEADS,
    constant_head,
    list_heads,
    make_head,
    open_outputs,
    open_to_new_classes,
    register_head,
    warn_of_probabilities,
)
from sktransfer.training._loss import (
    LOSSES,
    DomainBatch,
    Objective,
    cross_entropy,
    find_loss,
    list_losses,
    pinball_loss,
    register_loss,
)
from sktransfer.training._net import SuffixNet, restore_net
from sktransfer.training._network import Network, Probabilities, head_from_linear
from sktransfer.training._probe import (
    fit_multilabel_probe,
    fit_probe,
    middle_C,
    search_C,
    search_multilabel_C,
)
from sktransfer.training._recipe import (
    Augmentation,
    LoRA,
    Pooling,
    ResolvedRecipe,
    TrainingRecipe,
)
from sktransfer.training._ridge import fit_ridge, middle_alpha, search_alpha
from sktransfer.training._saver import Saver, restore_weights_on_error
from sktransfer.training._similarity import (
    ChannelMoments,
    choose_lr_ratio,
    model_inputs,
    run_network,
    similarity_from,
)
from sktransfer.training._solved_head import Probe, Solution, is_narrow, last_layer
from sktransfer.training._train import monitors_validation, train

__all__ = [
    "ACTIVATION_AUGMENTATIONS",
    "ADAPTATION_METHODS",
    "HEADS",
    "LOSSES",
    "ActivationAugment",
    "AdaptationContext",
    "AdaptationMethod",
    "AdaptationResult",
    "Augmentation",
    "ChannelMoments",
    "Data",
    "DomainBatch",
    "EarlyStopping",
    "FitSamples",
    "LabelledActivations",
    "LabelledSamples",
    "LoRA",
    "Mix",
    "Network",
    "Objective",
    "Pooling",
    "Probabilities",
    "Probe",
    "ResolvedRecipe",
    "Saver",
    "Solution",
    "SuffixNet",
    "TrainingRecipe",
    "add_lora",
    "are_strange",
    "choose_lr_ratio",
    "class_means",
    "constant_head",
    "cross_entropy",
    "epochs_to_wait",
    "exchanged_classes",
    "find_loss",
    "fit_multilabel_probe",
    "fit_probe",
    "fit_ridge",
    "head_data",
    "head_from_linear",
    "hold_out",
    "in_span",
    "is_divisible",
    "is_narrow",
    "last_layer",
    "lda_predictions",
    "list_heads",
    "list_losses",
    "make_head",
    "merge_lora",
    "middle_C",
    "middle_alpha",
    "mixes_samples",
    "model_inputs",
    "monitors_validation",
    "open_outputs",
    "open_to_new_classes",
    "pinball_loss",
    "predict_views",
    "register_head",
    "register_loss",
    "restore_net",
    "restore_weights_on_error",
    "run_network",
    "search_C",
    "search_alpha",
    "search_multilabel_C",
    "shrunk_covariance",
    "similarity_from",
    "sort_by_content",
    "stages_above",
    "targets_of",
    "train",
    "training_precision",
    "trains_in_bfloat16",
    "unfreezing_phases",
    "warn_of_probabilities",
    "weigh_classes",
    "weigh_labels",
    "whiten",
]
