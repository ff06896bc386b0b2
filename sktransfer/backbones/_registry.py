"""Providers of backbones: who makes a network of a name."""

import logging
import warnings
from importlib.metadata import EntryPoint, entry_points

from sktransfer.utils import TransferWarning, near_matches

__all__ = [
    "BackboneProvider",
    "full_name",
    "get_provider",
    "list_providers",
    "register_provider",
    "registered",
    "resolve_name",
]

_logger = logging.getLogger("sktransfer")
_GROUP = "sktransfer.backbones"
_UNPREFIXED = "shipped"  # whose names are listed without the provider in front
# In the order in which names without a provider are looked up.
_BUILT_IN = {
    name: EntryPoint(name, f"sktransfer.backbones.{place}", _GROUP)
    for name, place in (
        ("shipped", "_shipped:ShippedProvider"),
        ("torchvision", "_torchvision:TorchvisionProvider"),
        ("timm", "_timm:TimmProvider"),
    )
}
_METHODS = ("names", "load", "describe", "card_entries", "adapt")
registered: dict[str, object] = {}  # by name; those of packages once they are loaded
_broken: set[str] = set()


class BackboneProvider:
    """A source of backbones by name, such as a library of networks.

    A provider is an object with these methods. :meth:`names` and :meth:`load` are its
    own; the others have defaults here, so that a provider may inherit from this class,
    but need not. It is known by a name, see :func:`register_provider`, which stands in
    front of its backbones' names: ``"acme/small"``.
    """

    def names(self):
        """Return the names of its backbones (list of str), without the provider's.

        It is called often, and should neither build networks nor use the network.
        """
        raise NotImplementedError

    def load(self, name, *, weights, image_size, make):
        """Make a backbone.

        Parameters
        ----------
        name : str
            One that :meth:`provides` accepts.
        weights : str or None
            ``"default"``; None for random weights; or what the provider calls them.
        image_size : int, (int, int) or None
            For a network that is made for one size; None for that of the weights.
        make : callable
            ``make(function)`` calls a function that makes a module, under a local seed
            for its random weights.

        Returns
        -------
        Backbone
            With the module, the preprocessing of its weights, ``weights`` (what they
            are called, None for random ones), ``license`` if it is known and ``name``
            without the provider's.

        Raises
        ------
        ValueError
            If there are no such weights.
        OSError
            If weights cannot be downloaded.
        """
        raise NotImplementedError

    def provides(self, name):
        """Return whether it can load a backbone of this name (bool)."""
        return name in self.names()

    def describe(self, name):
        """Return what :func:`list_backbones` lists of a backbone.

        Parameters
        ----------
        name : str
            One of :meth:`names`.

        Returns
        -------
        list of dict
            One per set of weights, or one without ``weights``. Known entries among
            ``parameters`` (int), ``input_size`` (int, in pixels), ``weights`` (str),
            ``license`` (str) and ``available`` (bool, whether the weights are on this
            machine).
        """
        return [{}]

    def card_entries(self, name, weights):
        """Return what a :class:`ModelCard` says of the origin of some weights.

        Parameters
        ----------
        name : str
        weights : str or None
            What the backbone calls them.

        Returns
        -------
        dict of str to str
            Any of ``source``, ``training_data`` and ``citation``.
        """
        return {}

    def adapt(self, state, network):
        """Return a checkpoint with the names and shapes that a network has.

        Parameters
        ----------
        state : dict of str to torch.Tensor
        network : torch.nn.Module
            Of this provider.

        Returns
        -------
        dict of str to torch.Tensor
            As it was by default.
        """
        return state


def register_provider(name, provider):
    """Make the backbones of a provider known by name in this process.

    A package registers its provider for every process by an entry point of the group
    ``sktransfer.backbones``, whose name is that of the provider and whose value is the
    provider or its class. It is imported when one of its backbones is asked for.

    Parameters
    ----------
    name : str
        An identifier. That of a built-in provider cannot be taken; a later provider
        replaces an earlier one of its name.
    provider : BackboneProvider
        Or any object with its methods.

    Raises
    ------
    TypeError
        If the provider lacks a method.
    ValueError
        If the name is none or is taken.

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


def list_providers():
    """Return the names of the providers (list of str).

    In the order in which names without a provider are looked up: the built-in ones,
    those of installed packages, and those that were registered in this process.

    Examples
    --------
    >>> from sktransfer.backbones import list_providers
    >>> list_providers()[:3]
    ['shipped', 'torchvision', 'timm']
    """
    return list(dict.fromkeys([*_BUILT_IN, *_plug_ins(), *registered]))


def _plug_ins():
    """Return the entry points of installed packages by name (dict)."""
    found = sorted(entry_points(group=_GROUP), key=lambda point: point.name)
    return {point.name: point for point in found if point.name not in _BUILT_IN}


def get_provider(name):
    """Return the provider of a name; None if its package is broken, with a warning."""
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


def full_name(provider, name):
    """Return the name of a backbone with that of its provider in front (str)."""
    return name if provider == _UNPREFIXED else f"{provider}/{name}"


def resolve_name(spec):
    """Return the provider and the name there (str, str) of a name with or without both.

    Raises a TypeError if it is no string, and a ValueError that names near matches if
    nobody provides it.
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
