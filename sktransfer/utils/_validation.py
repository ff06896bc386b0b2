"""Validation and diagrams by scikit-learn, including what it does not document.

No other module imports from `sklearn.utils._param_validation` or uses a private name of
scikit-learn. If one of these moves, only this file changes.
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
    "spawn_seed",
    "type_of_target",
    "validate_data",
    "validate_params",
]


def spawn_seed(random_state: int | np.random.RandomState | None = None) -> int:
    """Draw the seed of a local random generator.

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


def captioned_block(estimator, caption):
    """Return scikit-learn's diagram of an estimator, with a line below its name.

    Parameters
    ----------
    estimator : estimator
    caption : str
        The line.

    Returns
    -------
    VisualBlock
        To be returned by the estimator's ``_sk_visual_block_``.
    """
    return VisualBlock(
        "single",
        estimator,
        names=type(estimator).__name__,
        name_details=str(estimator),
        name_caption=caption,
    )
