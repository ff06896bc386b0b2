"""Providers of backbones by name."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import torch
from torch import nn

from sktransfer.backbones._backbone import Backbone
from sktransfer.inputs import MODALITIES, Modality, modality_of
from sktransfer.utils import Registry, check_parts, near_matches, warn_caller

_logger = logging.getLogger("sktransfer")
_GROUP = "sktransfer.backbones"
_UNPREFIXED = "shipped"  # listed without the provider in front of the name
# In the order in which a name without a provider is looked up.
_BUILT_IN = {
    name: EntryPoint(name, f"sktransfer.backbones.{place}", _GROUP)
    for name, place in (
        ("shipped", "_shipped:ShippedProvider"),
        ("torchvision", "_torchvision:TorchvisionProvider"),
        ("timm", "_timm:TimmProvider"),
        ("hf", "_huggingface:HuggingFaceProvider"),
    )
}
NOT_STATED = "not stated"
_loaded: dict[str, Any] = {}  # from entry points; None if a package is broken


class BackboneProvider(ABC):
    """A source of backbones by name, such as a library of networks.

    A provider is an object with these methods. It must define :meth:`names` and
    :meth:`load`, and can inherit the other ones from this class.
    :func:`register_provider` gives it a name, which stands in front of the names of its
    backbones: ``"acme/small"``.

    Examples
    --------
    >>> from torch import nn
    >>> from sktransfer.backbones import Backbone, BackboneProvider
    >>> from sktransfer.inputs import VectorPreprocessing
    >>> class Acme(BackboneProvider):
    ...     def names(self):
    ...         return ["small"]
    ...
    ...     def load(self, name, *, weights, image_size, make):
    ...         module = make(lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU()))
    ...         return Backbone(module, preprocessing=VectorPreprocessing(4), name=name)
    ...
    ...     def kind(self, name):
    ...         return "vector"
    >>> Acme().provides("small")
    True
    """

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of the backbones, without the provider in front.

        It is called often, so it should neither build networks nor download files.

        Returns
        -------
        list of str
        """

    @abstractmethod
    def load(
        self, name: str, *, weights: str | None, image_size: Any, make: Callable
    ) -> Backbone:
        """Make a backbone.

        Parameters
        ----------
        name : str
            A name that :meth:`provides` accepts.
        weights : str or None
            ``"default"``, the provider's name of other weights, or None for random
            ones.
        image_size : int, (int, int) or None
            Image size for networks that are built for a fixed one. None for that of
            the weights.
        make : callable
            ``make(function)`` returns ``function()``, which builds the module, with
            the generators of random weights seeded locally.

        Returns
        -------
        Backbone
            With ``preprocessing`` of the weights, ``name`` without the provider,
            ``weights`` (their name, None for random ones) and ``license`` if known.

        Raises
        ------
        ValueError
            If there are no weights of this name.
        OSError
            If weights cannot be downloaded.
        """

    def provides(self, name: str) -> bool:
        """Return whether :meth:`load` accepts a name (bool)."""
        return name in self.names()

    def claims(self, name: str) -> bool:
        """Return whether a name without a provider in front belongs to this one.

        Parameters
        ----------
        name : str
            Name of a backbone, as a user wrote it.

        Returns
        -------
        bool
            By default what :meth:`provides` returns.
        """
        return self.provides(name)

    def kind(self, name: str) -> str:
        """Return the modality of the samples that a backbone takes.

        It is called before the backbone is loaded, to check X and to set the tags of
        scikit-learn, and must be the ``kind`` of the preprocessing of the backbone.

        Parameters
        ----------
        name : str
            A name that :meth:`provides` accepts.

        Returns
        -------
        str
            ``"image"`` by default; ``"audio"``, ``"text"``, ``"vector"``, or a name
            passed to :func:`sktransfer.inputs.register_modality`.
        """
        return "image"

    def describe(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of :func:`list_backbones` about a backbone.

        Parameters
        ----------
        name : str
            One of :meth:`names`.

        Returns
        -------
        list of dict
            One per set of weights, the default ones first, or one without ``weights``.
            Each may have
            ``parameters`` (int), ``input_size`` (int, in pixels), ``weights`` (str),
            ``license`` (str) and ``available`` (bool, whether no download is needed).
        """
        return [{}]

    def card_entries(self, name: str, weights: str | None) -> dict[str, str]:
        """Return the entries of a :class:`ModelCard` about the origin of weights.

        Parameters
        ----------
        name : str
            Name of the backbone, without the provider.
        weights : str or None
            Name of the weights, None for random ones.

        Returns
        -------
        dict of str to str
            Any of ``source``, ``training_data`` and ``citation``.
        """
        return {}

    def adapt(
        self, state: dict[str, torch.Tensor], network: nn.Module
    ) -> dict[str, torch.Tensor]:
        """Adapt a checkpoint to the names and shapes of a network.

        Parameters
        ----------
        state : dict of str to torch.Tensor
            State dict that does not fit.
        network : torch.nn.Module
            Network of this provider.

        Returns
        -------
        dict of str to torch.Tensor
            By default `state` itself.
        """
        return state


_check_provider = partial(check_parts, protocol=BackboneProvider, noun="provider")
RULE = "`provider` must be None or one of {names}"
PROVIDERS: Registry[Any] = Registry("providers", RULE, _check_provider, _BUILT_IN)


def register_provider(name: str, provider: BackboneProvider) -> None:
    """Register a provider of backbones in this process.

    A package registers its provider for all processes by an entry point of the group
    ``sktransfer.backbones``, whose name is that of the provider and whose value is the
    provider or its class. The value is imported once, when the provider is first
    needed: when a backbone is asked for by a name with the provider in front of it, or
    by a name that no earlier provider knows, and by :func:`list_backbones`.

    Parameters
    ----------
    name : str
        Stands in front of the names of its backbones, an identifier. Names of built-in
        providers are taken; any other provider of the same name is replaced.
    provider : BackboneProvider
        Any object with the methods of this class.

    Raises
    ------
    TypeError
        If the provider lacks a method, or is a class.
    ValueError
        If the name is not an identifier, or is taken.

    See Also
    --------
    list_providers : The names of all providers.

    Examples
    --------
    >>> from sktransfer.backbones import (
    ...     BackboneProvider, list_backbones, load_backbone, register_provider
    ... )
    >>> class Renamed(BackboneProvider):  # the default backbone under another name
    ...     def names(self):
    ...         return ["images"]
    ...
    ...     def load(self, name, *, weights, image_size, make):
    ...         return load_backbone("efficientnet_lite0", weights=weights)
    >>> register_provider("team", Renamed())
    >>> list_backbones(provider="team")["name"].tolist()
    ['team/images']
    """
    PROVIDERS.register(name, provider)


def list_providers() -> list[str]:
    """Return the names of the providers.

    They are in the order in which a name without a provider is looked up: the built-in
    ones, those of installed packages, and those registered in this process.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from sktransfer.backbones import list_providers
    >>> list_providers()[:4]
    ['shipped', 'torchvision', 'timm', 'hf']
    """
    return list(dict.fromkeys(_iter_providers()))


def _iter_providers() -> Iterator[str]:
    """Yield names of providers, and look for packages after the built-in ones only."""
    yield from _BUILT_IN
    yield from _plug_ins()
    yield from PROVIDERS


def _plug_ins() -> dict[str, EntryPoint]:
    """Return the entry points of installed packages by name."""
    found = sorted(entry_points(group=_GROUP), key=lambda point: point.name)
    return {point.name: point for point in found if point.name not in _BUILT_IN}


def get_provider(name: str) -> Any:
    """Return a provider; None if its package is broken, after a warning."""
    if name in PROVIDERS:
        return PROVIDERS[name]
    if name not in _loaded:
        _loaded[name] = _load(_BUILT_IN.get(name) or _plug_ins()[name])
    return _loaded[name]


def _load(point):
    try:
        provider = point.load()
        provider = provider() if isinstance(provider, type) else provider
        _check_provider(provider)
    except Exception as error:
        _warn_of_broken(point, error)
        return None
    return provider


def _warn_of_broken(point, error):
    package = point.dist.name if point.dist else point.value
    warn_caller(
        f"The package {package!r} provides backbones as {point.name!r}, but its entry "
        f"point {point.value!r} cannot be used ({type(error).__name__}: {error}). They "
        "are left out. Update or uninstall it."
    )


def full_name(provider: str, name: str) -> str:
    """Return the name of a backbone with its provider in front."""
    return name if provider == _UNPREFIXED else f"{provider}/{name}"


def resolve_name(spec: str) -> tuple[str, str]:
    """Return the provider that a name belongs to, and the name without it.

    Raises a ValueError that lists similar names if there is none.
    """
    if not isinstance(spec, str):
        raise TypeError(
            "`backbone` must be a name, an nn.Module, a callable that returns one, or "
            f"a Backbone. Got {spec!r}."
        )
    found = _look_up(spec)
    if found is None:
        raise ValueError(_unknown(spec))
    provider, name = found
    if name == spec:
        _logger.info("backbone %r is taken from %s", spec, provider)
    return provider, name


def modality_for(X: Any, backbone: Any, options: Mapping) -> Modality:
    """Return the modality of X, as `modality_of` does, also for the name of a backbone.

    The provider states it, and no network is loaded. An unknown name, for which loading
    will raise an error, counts as that of a network for images.
    """
    if not isinstance(backbone, str):
        return modality_of(X, backbone, options)
    found = _look_up(backbone)
    if found is None:
        return MODALITIES["image"]
    provider, name = found
    return MODALITIES[get_provider(provider).kind(name)]


def _look_up(spec):
    """Return the provider that knows a name and the name without it, or None."""
    provider, slash, name = spec.partition("/")
    if slash and (provider in PROVIDERS or provider in _iter_providers()):
        found = get_provider(provider)
        return (provider, name) if found and found.provides(name) else None
    for provider in _iter_providers():
        found = get_provider(provider)
        if found is not None and found.claims(spec):
            return provider, spec
    return None


def _unknown(spec):
    names = {
        name.partition(".")[0]: None
        for provider in filter(None, map(get_provider, list_providers()))
        for name in provider.names()
    }
    near = near_matches(spec.rpartition("/")[2], list(names))
    return (
        f"There is no backbone {spec!r} from any of the providers {list_providers()}; "
        f"`sktransfer.backbones.list_backbones()` lists them.{near}"
    )


def stated_license(license: str | None) -> str:
    """Return a license as its provider states it, or "not stated"."""
    return license if license and license != "unknown" else NOT_STATED
