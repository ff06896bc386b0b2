"""Tools that know nothing of networks: settings, validation, messages, hashes.

:mod:`sktransfer.utils.description` describes objects by everything that can change what
they compute, so that results can be kept under a key and found again.
"""

from sktransfer.utils._config import (
    adopt_settings,
    config_context,
    get_config,
    set_config,
    settings_to_send,
)
from sktransfer.utils._groups import (
    ParameterGroup,
    add_group_params,
    as_groups,
    validate_groups,
)
from sktransfer.utils._hashing import (
    DIGEST_SIZE,
    FileMemory,
    content_stamp,
    digest,
)
from sktransfer.utils._messages import (
    TransferWarning,
    import_optional,
    near_matches,
    warn_caller,
)
from sktransfer.utils._tensors import TensorDigests, on_cpu, update_with_tensor
from sktransfer.utils._validation import (
    HasMethods,
    Hidden,
    Interval,
    InvalidParameterError,
    Options,
    StrOptions,
    VisualBlock,
    captioned_block,
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
from sktransfer.utils.description import (
    Description,
    describe,
    join_key,
    process_key,
    survey_class,
)

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
