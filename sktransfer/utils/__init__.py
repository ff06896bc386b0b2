"""Optional imports, text for errors, and the door to scikit-learn's validation."""

from sktransfer.utils._config import (
    adopt_settings,
    config_context,
    get_config,
    set_config,
    settings_to_send,
)
from sktransfer.utils._describe import Description, describe
from sktransfer.utils._digest import DIGEST_SIZE, digest
from sktransfer.utils._files import FileMemory, content_stamp
from sktransfer.utils._groups import (
    ParameterGroup,
    add_group_params,
    as_groups,
    validate_groups,
)
from sktransfer.utils._html import captioned_block
from sktransfer.utils._optional import import_optional
from sktransfer.utils._portable import on_cpu
from sktransfer.utils._process_key import join_key, process_key
from sktransfer.utils._survey import survey_class
from sktransfer.utils._tensor_bytes import TensorDigests, update_with_tensor
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
from sktransfer.utils._warnings import TransferWarning, warn_caller

__all__ = [
    "DIGEST_SIZE",
    "Description",
    "FileMemory",
    "HasMethods",
    "Hidden",
    "Interval",
    "InvalidParameterError",
    "Options",
    "ParameterGroup",
    "StrOptions",
    "TensorDigests",
    "TransferWarning",
    "VisualBlock",
    "add_group_params",
    "adopt_settings",
    "as_groups",
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
    "content_stamp",
    "describe",
    "digest",
    "get_config",
    "import_optional",
    "join_key",
    "near_matches",
    "on_cpu",
    "process_key",
    "set_config",
    "settings_to_send",
    "spawn_seed",
    "survey_class",
    "type_of_target",
    "update_with_tensor",
    "validate_data",
    "validate_groups",
    "validate_params",
    "warn_caller",
]
