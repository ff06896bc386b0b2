"""Registry of the adaptation methods, and the values of the parameter `method`."""

import copy
from collections.abc import Callable
from numbers import Real

from torch import nn

from sktransfer.adaptation._adversarial import DANN
from sktransfer.adaptation._alignment import CORAL, JMMD, MMD
from sktransfer.adaptation._centroids import Centroids
from sktransfer.adaptation._self_training import MCC, PseudoLabels
from sktransfer.adaptation._source_free import SHOT, AdaBN
from sktransfer.training import ADAPTATION_METHODS, AdaptationMethod


class NoAdaptation(AdaptationMethod):
    """No adaptation: train on the source alone, for comparison."""

    name = "none"
    needs_source = False

    def __init__(self):
        super().__init__()


class _Callable(AdaptationMethod):
    """Method whose objective is a function or module of the user."""

    def __init__(self, function, *, weight=1.0):
        super().__init__(weight=weight)
        self.function = function

    @property
    def name(self):
        return getattr(self.function, "__name__", type(self.function).__name__)

    def make_objective(self, n_features, n_outputs, is_multilabel, seed):
        if isinstance(self.function, nn.Module):
            return copy.deepcopy(self.function)  # as its parameters are trained
        return self.function


def register_method(name: str, method: type[AdaptationMethod]) -> None:
    """Register an adaptation method by name.

    Parameters
    ----------
    name : str
        The value of the parameter `method`, an identifier. Names of built-in methods
        are taken; any other method of the same name is replaced.
    method : subclass of AdaptationMethod
        Class of the method, which is called without arguments.

    Raises
    ------
    TypeError
        If `method` is not a subclass of AdaptationMethod, or needs the source and
        defines no objective.
    ValueError
        If the name is not an identifier, or is taken.

    See Also
    --------
    list_methods : The names of all methods.

    Examples
    --------
    >>> from sktransfer.adaptation import (
    ...     AdaptationMethod, DomainAdaptedClassifier, register_method
    ... )
    >>> class MeanMatching(AdaptationMethod):
    ...     def make_objective(self, n_features, n_outputs, is_multilabel, seed):
    ...         return self.distance
    ...
    ...     def distance(self, source, target, progress):
    ...         difference = source.features.mean(0) - target.features.mean(0)
    ...         return difference.square().sum()
    >>> register_method("mean_matching", MeanMatching)
    >>> model = DomainAdaptedClassifier(method="mean_matching")
    """
    ADAPTATION_METHODS.register(name, method)


def list_methods() -> list[str]:
    """Return the names of the registered adaptation methods.

    Returns
    -------
    list of str

    See Also
    --------
    register_method : Registers a method by name.

    Examples
    --------
    >>> from sktransfer.adaptation import list_methods
    >>> list_methods()[:3]
    ['none', 'centroids', 'adabn']
    """
    return list(ADAPTATION_METHODS)


def source_free_methods() -> list[str]:
    """Return the names of the methods that adapt without the source."""
    free = (k for k, method in ADAPTATION_METHODS.items() if not method.needs_source)
    return [name for name in free if name != NoAdaptation.name]


def resolve_method(method: str | AdaptationMethod | Callable) -> AdaptationMethod:
    """Return the method for a value of the parameter `method`.

    A callable has the signature ``function(source, target, progress)``, see
    :meth:`AdaptationMethod.make_objective`.
    """
    found = ADAPTATION_METHODS[method]() if isinstance(method, str) else method
    if not isinstance(found, AdaptationMethod):
        if not callable(found) or isinstance(found, type):
            raise TypeError(
                "`method` must be a str, an AdaptationMethod or a callable. Got "
                f"{method!r}; pass an instance, not a class."
            )
        found = _Callable(found)
    if not isinstance(found.weight, Real) or found.weight < 0:
        raise ValueError(
            f"`weight` of {type(found).__name__} must be at least 0. Got "
            f"{found.weight!r}."
        )
    return found


for _method in (
    *(NoAdaptation, Centroids, AdaBN, SHOT),
    *(CORAL, MMD, JMMD, DANN, MCC, PseudoLabels),
):
    ADAPTATION_METHODS.add_built_in(_method.name, _method)
