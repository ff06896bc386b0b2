"""Registries of named objects, which follow the same rules for all kinds of them."""

from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

from sktransfer.utils._messages import near_matches

Entry = TypeVar("Entry")


class Registry(dict[str, Entry]):
    """Objects by name: built-in ones, and those that users register.

    A name is an identifier. Those of built-in objects are taken; any other object of
    the same name is replaced, as when a cell of a notebook is run again. Names are in
    the order of registration, and ``registry[name]`` raises a ValueError that lists
    them if there is none.

    Parameters
    ----------
    noun : str
        The word for the objects in messages, such as "heads".
    rule : str
        Begins the error for an unknown name, with ``{names}`` for all names:
        ``"`head` must be one of {names}"``.
    check : callable
        ``check(entry)`` raises a TypeError if an object does not follow its protocol,
        which says what is missing.
    reserved : iterable of str, default=()
        Names that are taken besides those of built-in objects.
    """

    def __init__(
        self,
        noun: str,
        rule: str,
        check: Callable[[Any], None],
        reserved: Iterable[str] = (),
    ):
        super().__init__()
        self._noun = noun
        self._rule = rule
        self._check = check
        self._taken = [*reserved]

    def __missing__(self, name: Any) -> NoReturn:
        raise ValueError(unknown_name(self._rule, name, self))

    def add_built_in(self, name: str, entry: Entry) -> None:
        """Register an object of this package, whose name users cannot take."""
        self._check(entry)
        self[name] = entry
        if name not in self._taken:  # else its module is reloaded
            self._taken.append(name)

    def register(self, name: str, entry: Entry) -> None:
        """Register an object under a name."""
        if not (isinstance(name, str) and name.isidentifier()) or name in self._taken:
            raise ValueError(
                f"`name` must be an identifier other than those of the built-in "
                f"{self._noun}, {self._taken}. Got {name!r}."
            )
        self._check(entry)
        self[name] = entry


def unknown_name(rule: str, name: Any, names: Iterable[str]) -> str:
    """Return the error for an unknown name: a rule, and names that are similar."""
    near = near_matches(name, names) if isinstance(name, str) else ""
    return f"{rule.format(names=[*names])}. Got {name!r}.{near}"


def check_parts(thing: Any, protocol: type, noun: str) -> None:
    """Raise a TypeError if an object lacks parts of a protocol, which it names."""
    parts = [*protocol.__annotations__, *vars(protocol)]
    public = [part for part in parts if not part.startswith("_")]
    missing = [part for part in public if not hasattr(thing, part)]
    rule = f"A {noun} must be an object with all parts of {protocol.__name__}."
    if missing:
        raise TypeError(f"{rule} {thing!r} lacks {missing}.")
    if isinstance(thing, type):
        raise TypeError(f"{rule} Got the class {thing!r}; pass an instance.")


def check_callable(thing: Any, parameter: str, signature: str) -> None:
    """Raise a TypeError if an object cannot be called."""
    if not callable(thing):
        raise TypeError(
            f"`{parameter}` must be a callable, {signature}. Got {thing!r}."
        )
