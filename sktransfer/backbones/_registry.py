"""Providers of backbones by name, and the list of what they provide."""

import fnmatch
import logging
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pandas as pd
import torch
from torch import nn

from sktransfer.backbones._backbone import Backbone
from sktransfer.utils import TransferWarning, near_matches

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
    )
}
_METHODS = ("names", "load", "describe", "card_entries", "adapt")
NOT_STATED = "not stated"
_COLUMNS = {
    "name": None,
    "provider": None,
    "parameters": None,
    "input_size": None,
    "weights": None,
    "license": None,
    "available": False,
}
registered: dict[str, Any] = {}  # by name, including the packages in use
_broken: set[str] = set()


class BackboneProvider:
    """A source of backbones by name, such as a library of networks.

    A provider is an object with these methods. It must define :meth:`names` and
    :meth:`load`, and can inherit the other ones from this class.
    :func:`register_provider` gives it a name, which stands in front of the names of its
    backbones: ``"acme/small"``.
    """

    def names(self) -> list[str]:
        """Return the names of the backbones, without the provider in front.

        It is called often, so it should neither build networks nor download anything.

        Returns
        -------
        list of str
        """
        raise NotImplementedError

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
        raise NotImplementedError

    def provides(self, name: str) -> bool:
        """Return whether :meth:`load` accepts a name (bool)."""
        return name in self.names()

    def describe(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of :func:`list_backbones` about a backbone.

        Parameters
        ----------
        name : str
            One of :meth:`names`.

        Returns
        -------
        list of dict
            One per set of weights, or one without ``weights``. Each may have
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


def register_provider(name: str, provider: BackboneProvider) -> None:
    """Register a provider of backbones in this process.

    A package registers its provider for all processes by an entry point of the group
    ``sktransfer.backbones``, whose name is that of the provider and whose value is the
    provider or its class. It is imported when a backbone is looked up in it.

    Parameters
    ----------
    name : str
        An identifier that is not the name of a built-in provider. It replaces an
        earlier provider of the same name.
    provider : BackboneProvider
        Any object with the methods of this class.

    Raises
    ------
    TypeError
        If the provider lacks a method.
    ValueError
        If the name is no identifier, or that of a built-in provider.

    See Also
    --------
    list_providers : The names of all providers.
    """
    if not (isinstance(name, str) and name.isidentifier()) or name in _BUILT_IN:
        raise ValueError(
            "`name` must be an identifier other than the built-in "
            f"{list(_BUILT_IN)}. Got {name!r}."
        )
    _check_provider(provider)
    registered[name] = provider


def _check_provider(provider):
    missing = [m for m in _METHODS if not callable(getattr(provider, m, None))]
    if missing or isinstance(provider, type):
        raise TypeError(
            "`provider` must be an object with the methods of BackboneProvider. "
            f"{provider!r} lacks {missing or 'an instance: it is a class'}."
        )


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
    >>> list_providers()[:3]
    ['shipped', 'torchvision', 'timm']
    """
    return list(dict.fromkeys([*_BUILT_IN, *_plug_ins(), *registered]))


def _plug_ins() -> dict[str, EntryPoint]:
    """Return the entry points of installed packages by name."""
    found = sorted(entry_points(group=_GROUP), key=lambda point: point.name)
    return {point.name: point for point in found if point.name not in _BUILT_IN}


def get_provider(name: str) -> Any:
    """Return a provider; None if its package is broken, after a warning."""
    if name not in registered:
        point = _BUILT_IN.get(name) or _plug_ins()[name]
        try:
            provider = point.load()
            provider = provider() if isinstance(provider, type) else provider
            _check_provider(provider)
        except Exception as error:
            _warn_of_broken(point, error)
            return None
        registered[name] = provider
    return registered[name]


def _warn_of_broken(point, error):
    if point.name in _broken:
        return
    _broken.add(point.name)
    package = point.dist.name if point.dist else point.value
    warnings.warn(
        f"The package {package!r} provides backbones as {point.name!r}, but its entry "
        f"point {point.value!r} cannot be used ({type(error).__name__}: {error}). They "
        "are left out. Update or uninstall it.",
        TransferWarning,
        stacklevel=3,
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
    providers = list_providers()
    provider, slash, name = spec.partition("/")
    if slash and provider in providers:
        if _provides(provider, name):
            return provider, name
        raise ValueError(_unknown(spec))
    for provider in providers:
        if _provides(provider, spec):
            _logger.info("backbone %r is taken from %s", spec, provider)
            return provider, spec
    raise ValueError(_unknown(spec))


def _provides(provider, name):
    found = get_provider(provider)
    if found is None:
        return False
    provides = getattr(found, "provides", None) or found.names().__contains__
    return provides(name)


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


def list_backbones(
    filter: str | None = None,
    provider: str | None = None,
    license: str | list[str] | None = None,
) -> pd.DataFrame:
    """List the backbones that can be loaded by name.

    Parameters
    ----------
    filter : str, default=None
        Shell-style pattern of the name, such as ``"*resnet*"``. By default all.
    provider : str, default=None
        One of :func:`list_providers`. By default all.
    license : str or list of str, default=None
        Shell-style patterns of the license of the weights, in any case, such as
        ``["apache-*", "mit"]`` or ``"not stated"``. By default all.

    Returns
    -------
    pandas.DataFrame
        One row per set of weights, or per architecture without any, with the columns
        ``name`` (for :func:`load_backbone`), ``provider``, ``parameters`` (their
        number), ``input_size`` in pixels, ``weights`` (missing if there are none),
        ``license`` of the weights as the provider states it or ``"not stated"``, and
        ``available``, whether they are on this machine.

    Raises
    ------
    ValueError
        If there is no such provider.

    See Also
    --------
    model_card : Describes one backbone.
    describe_backbone : Lists the stages of one backbone.

    Examples
    --------
    >>> from sktransfer.backbones import list_backbones
    >>> list_backbones(provider="shipped")["name"].tolist()
    ['efficientnet_lite0', 'efficientnet_lite1', 'efficientnet_lite2']
    >>> list_backbones("resnet18", license="bsd-*")["weights"].tolist()
    []
    """
    providers = list_providers()
    if provider not in (None, *providers):
        raise ValueError(
            f"`provider` must be one of {providers} or None. Got {provider!r}."
        )
    wanted = providers if provider is None else [provider]
    rows = [row for p in wanted for row in _rows(p, filter or "*")]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    if license is not None:
        patterns = [license] if isinstance(license, str) else list(license)
        found = [
            any(fnmatch.fnmatch(stated.lower(), p.lower()) for p in patterns)
            for stated in table["license"]
        ]
        table = table[found].reset_index(drop=True)
    return table.astype({"parameters": "Int64", "input_size": "Int64"})


def _rows(provider: str, pattern: str) -> Iterator[dict]:
    """Yield the rows of a table about the backbones of a provider."""
    source = get_provider(provider)
    for bare in source.names() if source is not None else ():
        name = full_name(provider, bare)
        if not (fnmatch.fnmatch(bare, pattern) or fnmatch.fnmatch(name, pattern)):
            continue
        for entries in source.describe(bare):
            row = _COLUMNS | entries | {"name": name, "provider": provider}
            yield row | {"license": stated_license(row["license"])}


def stated_license(license: str | None) -> str:
    """Return a license as its provider states it, or "not stated"."""
    return license if license and license != "unknown" else NOT_STATED
