"""The one door to scikit-learn's validation, its semi-private parts included.

Nothing else in sktransfer imports from `sklearn.utils._param_validation` or uses an
underscored name of scikit-learn: when one moves, this file changes and no other.
"""

import numpy as np
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import (
    HasMethods,
    Hidden,
    Interval,
    InvalidParameterError,
    Options,
    StrOptions,
    validate_params,
)
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

try:
    from sklearn.utils._repr_html.estimator import _VisualBlock as VisualBlock
except ImportError:  # before scikit-learn 1.7
    from sklearn.utils._estimator_html_repr import _VisualBlock as VisualBlock

__all__ = [
    "HasMethods",
    "Hidden",
    "Interval",
    "InvalidParameterError",
    "Options",
    "StrOptions",
    "VisualBlock",
    "check_array",
    "check_classification_targets",
    "check_consistent_length",
    "check_is_fitted",
    "check_random_state",
    "check_sample_weight",
    "column_or_1d",
    "compute_class_weight",
    "compute_sample_weight",
    "spawn_seed",
    "type_of_target",
    "validate_data",
    "validate_params",
]


def spawn_seed(random_state: int | np.random.RandomState | None = None) -> int:
    """Draw a seed for a generator of one's own.

    No global generator is read, advanced or seeded.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        An int gives the same seed every time, a `RandomState` the next one of its
        sequence, and None an unpredictable one.

    Returns
    -------
    seed : int
        In [0, 2**31 - 1): valid for numpy and for `torch.Generator.manual_seed`.

    Examples
    --------
    >>> from sktransfer.utils import spawn_seed
    >>> spawn_seed(0) == spawn_seed(0)
    True
    """
    if random_state is None:
        random_state = np.random.RandomState()
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
