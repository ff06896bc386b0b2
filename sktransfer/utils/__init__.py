"""Settings, validation, messages, registries, and hashes of files, tensors and objects.

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
from sktransfer.utils._hashing import FileCache, content_stamp
from sktransfer.utils._messages import (
    TransferWarning,
    import_optional,
    near_matches,
    warn_caller,
)
from sktransfer.utils._registry import (
    Registry,
    check_callable,
    check_parts,
    unknown_name,
)
from sktransfer.utils._search import (
    nearest_search,
    searched_parameters,
    told_in_search,
)
from sktransfer.utils._tensors import TensorDigests, on_cpu, update_with_tensor
from sktransfer.utils._validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    ParameterGroup,
    StrOptions,
    add_group_params,
    as_groups,
    captioned_block,
    check_array,
    check_classification_targets,
    check_consistent_length,
    check_is_fitted,
    check_random_state,
    check_sample_weight,
    column_or_1d,
    compute_class_weight,
    spawn_seed,
    type_of_target,
    validate_data,
    validate_groups,
)
from sktransfer.utils.description import (
    DIGEST_SIZE,
    NETWORK_LIBRARIES,
    Description,
    Watch,
    describe,
    digest,
    join_key,
    library_versions,
    survey_class,
)

__all__ = [
    "DIGEST_SIZE",
    "NETWORK_LIBRARIES",
    "Description",
    "FileCache",
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "ParameterGroup",
    "Registry",
    "StrOptions",
    "TensorDigests",
    "TransferWarning",
    "Watch",
    "add_group_params",
    "adopt_settings",
    "as_groups",
    "captioned_block",
    "check_array",
    "check_callable",
    "check_classification_targets",
    "check_consistent_length",
    "check_is_fitted",
    "check_parts",
    "check_random_state",
    "check_sample_weight",
    "column_or_1d",
    "compute_class_weight",
    "config_context",
    "content_stamp",
    "describe",
    "digest",
    "get_config",
    "import_optional",
    "join_key",
    "library_versions",
    "near_matches",
    "nearest_search",
    "on_cpu",
    "searched_parameters",
    "set_config",
    "settings_to_send",
    "spawn_seed",
    "survey_class",
    "told_in_search",
    "type_of_target",
    "unknown_name",
    "update_with_tensor",
    "validate_data",
    "validate_groups",
    "warn_caller",
]
