"""Wrappers of scikit-learn's validation, and groups of parameters.

Only this module imports from `sklearn.utils._param_validation` or uses private names of
scikit-learn, so that no other one changes if these are moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    StrOptions,
)
from sklearn.utils.class_weight import compute_class_weight
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
    "Interval",
    "InvalidParameterError",
    "ParameterGroup",
    "StrOptions",
    "add_group_params",
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
    "spawn_seed",
    "type_of_target",
    "validate_data",
    "validate_groups",
]


def spawn_seed(random_state: int | np.random.RandomState | None = None) -> int:
    """Draw the seed of a local random generator, in [0, 2**31 - 1).

    No global generator is read, advanced or seeded. An int gives the same seed every
    time, a `RandomState` the next one of its sequence, and None an unpredictable one.
    """
    if random_state is None:
        random_state = np.random.RandomState()
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def captioned_block(estimator: BaseEstimator, caption: str) -> VisualBlock:
    """Return scikit-learn's diagram of an estimator, with a line below its name.

    An estimator's ``_sk_visual_block_`` returns it.
    """
    return VisualBlock(
        "single",
        estimator,
        names=type(estimator).__name__,
        name_details=str(estimator),
        name_caption=caption,
    )


class ParameterGroup(BaseEstimator):
    """Base class of groups of parameters: cloneable, searchable and validated.

    A subclass lists its constraints in ``_parameter_constraints``, as scikit-learn's
    estimators do, and nested groups in ``_groups``. ``_shorthand`` is the parameter
    that is set if a plain value stands for the group.
    """

    _parameter_constraints: ClassVar[dict] = {}
    _groups: ClassVar[dict[str, type[ParameterGroup]]] = {}
    _shorthand: ClassVar[str | None] = None

    @classmethod
    def of(cls, given: Any) -> Any:
        """Return the group that a value stands for; a subclass may map some to None."""
        if isinstance(given, cls):
            return given
        if given is None or cls._shorthand is None:
            return cls()
        return cls(**{cls._shorthand: given})

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, if `deep` including those of nested groups.

        Parameters
        ----------
        deep : bool, default=True
            Whether to list the parameters of nested groups.

        Returns
        -------
        dict
        """
        params = super().get_params(deep=deep)
        return add_group_params(params, self._groups) if deep else params

    def set_params(self, **params: Any) -> ParameterGroup:
        """Set parameters, also those of nested groups by ``group__parameter``.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self : object
        """
        return super().set_params(**as_groups(self, params, self._groups))

    def validate(self) -> None:
        """Raise an error if a parameter does not meet its constraint."""
        self._validate_params()
        validate_groups(self, self._groups)


def add_group_params(
    params: Mapping, groups: Mapping[str, type[ParameterGroup]]
) -> dict[str, Any]:
    """Add the parameters of groups that are given as a shorthand or as None.

    `params` comes from ``get_params(deep=True)``, and `groups` holds the class of the
    group per parameter. The result also has ``group__parameter`` where a group is not
    given as an object.
    """
    found = dict(params)
    for name, kind in groups.items():
        group = kind.of(params[name])
        if group is not None and group is not params[name]:
            nested = group.get_params(deep=True)
            found |= {f"{name}__{key}": value for key, value in nested.items()}
    return found


def as_groups(
    estimator: BaseEstimator,
    params: Mapping,
    groups: Mapping[str, type[ParameterGroup]],
) -> dict[str, Any]:
    """Replace shorthands by groups where a parameter of the group is set.

    `params` are those for ``set_params``. scikit-learn needs an object to set
    ``group__parameter`` on.
    """
    found = dict(params)
    for name, kind in groups.items():
        given = params.get(name, getattr(estimator, name))
        is_set = any(key.startswith(f"{name}__") for key in params)
        if is_set and not isinstance(given, kind):
            found[name] = kind.of(given) or kind()
    return found


def validate_groups(
    estimator: BaseEstimator, groups: Mapping[str, type[ParameterGroup]]
) -> None:
    """Check the parameters of the groups that an estimator was given."""
    for name, kind in groups.items():
        given = getattr(estimator, name)
        if isinstance(given, kind):
            given.validate()
