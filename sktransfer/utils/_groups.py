"""Groups of constructor parameters: cloneable objects that can be searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sklearn.base import BaseEstimator

__all__ = ["ParameterGroup", "add_group_params", "as_groups", "validate_groups"]


def add_group_params(
    params: Mapping, groups: Mapping[str, type[ParameterGroup]]
) -> dict[str, Any]:
    """Add the parameters of groups that are given by a shorthand, or not at all.

    Parameters
    ----------
    params : dict
        From ``get_params(deep=True)``.
    groups : dict of str to type
        The class of the group that each parameter takes.

    Returns
    -------
    dict
        Also with ``group__parameter`` where a group is not given as an object.
    """
    found = dict(params)
    for name, kind in groups.items():
        group = kind.of(params[name])
        if group is not None and group is not params[name]:
            nested = group.get_params(deep=True)
            found |= {f"{name}__{key}": value for key, value in nested.items()}
    return found


def as_groups(
    estimator, params: Mapping, groups: Mapping[str, type[ParameterGroup]]
) -> dict[str, Any]:
    """Put groups in the place of shorthands whose parameters are being set.

    Parameters
    ----------
    estimator : estimator
        Has the parameters that are not set now.
    params : dict
        For ``set_params``.
    groups : dict of str to type

    Returns
    -------
    dict
        For ``set_params`` of scikit-learn, which needs an object to set
        ``group__parameter`` on.
    """
    found = dict(params)
    for name, kind in groups.items():
        given = params.get(name, getattr(estimator, name))
        is_set = any(key.startswith(f"{name}__") for key in params)
        if is_set and not isinstance(given, kind):
            found[name] = kind.of(given) or kind()
    return found


def validate_groups(estimator, groups: Mapping[str, type[ParameterGroup]]) -> None:
    """Check the parameters of the groups that an estimator was given."""
    for name, kind in groups.items():
        given = getattr(estimator, name)
        if isinstance(given, kind):
            given.validate()


class ParameterGroup(BaseEstimator):
    """Base of the groups of parameters: cloneable, searchable and validated."""

    _parameter_constraints: ClassVar[dict] = {}
    _groups: ClassVar[dict[str, type[ParameterGroup]]] = {}
    _shorthand: ClassVar[str | None] = None

    @classmethod
    def of(cls, given):
        """Return a group from itself or a shorthand; None if it is switched off."""
        if isinstance(given, cls):
            return given
        if given is None or cls._shorthand is None:
            return cls()
        return cls(**{cls._shorthand: given})

    def get_params(self, deep=True):
        """Get the parameters, including those of nested groups.

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

    def set_params(self, **params):
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
        """Raise an error if a parameter is out of range."""
        self._validate_params()
        validate_groups(self, self._groups)
