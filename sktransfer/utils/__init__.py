"""Optional imports, text for errors, and the door to scikit-learn's validation."""

from sktransfer.utils._config import config_context, get_config, set_config
from sktransfer.utils._digest import DIGEST_SIZE, digest
from sktransfer.utils._html import captioned_block
from sktransfer.utils._optional import import_optional
from sktransfer.utils._portable import on_cpu
from sktransfer.utils._text import near_matches
from sktransfer.utils._validation import (
    HasMethods,
    Hidden,
    Interval,
    InvalidParameterError,
    Options,
    StrOptions,
    VisualBlock,
    check_array,
    check_classification_targets,
    check_consistent_length,
    check_is_fitted,
    check_random_state,
    check_sample_weight,
    column_or_1d,
    compute_class_weight,
    compute_sample_weight,
    spawn_seed,
    type_of_target,
    validate_data,
    validate_params,
)
from sktransfer.utils._warnings import TransferWarning

__all__ = [
    "DIGEST_SIZE",
    "HasMethods",
    "Hidden",
    "Interval",
    "InvalidParameterError",
    "Options",
    "StrOptions",
    "TransferWarning",
    "VisualBlock",
    "captioned_block",
    "check_array",
    "check_classification_targets",
    "check_consistent_length",
    "check_is_fitted",
    "check_random_state",
    "check_sample_weight",
    "column_or_1d",
    "compute_class_weight",
    "compute_sample_weight",
    "config_context",
    "digest",
    "get_config",
    "import_optional",
    "near_matches",
    "on_cpu",
    "set_config",
    "spawn_seed",
    "type_of_target",
    "validate_data",
    "validate_params",
]
