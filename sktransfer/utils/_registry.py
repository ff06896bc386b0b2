"""Registries of objects by name, with the same rules for all kinds of objects."""

from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

from sktransfer.utils._messages import near_matches

Entry = TypeVar("Entry")


class Registry(dict[str, Entry]):
    """Objects by name: built-in ones, and those that users register.

    Names are identifiers, in the order of registration. Those of built-in objects
    cannot be used again; any other object of the same name is replaced, as when a cell
    of a notebook is run again. For an unknown name, ``registry[name]`` raises a
    ValueError that lists all names.

    Parameters
    ----------
    noun : str
        What the objects are called in messages, such as "heads".
    rule : str
        Beginning of the error for an unknown name, with ``{names}`` for all names:
        ``"`head` must be one of {names}"``.
    check : callable
        ``check(entry)`` raises a TypeError that says what an object lacks if it does
        not follow its protocol.
    reserved : iterable of str, default=()
        Names that cannot be used, in addition to those of built-in objects.
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
        """Register an object of this package under a name that users cannot use."""
        self._check(entry)
        self[name] = entry
        if name not in self._taken:  # else its module is reloaded
            self._taken.append(name)

    def register(self, name: str, entry: Entry) -> None:
        """Register an object; raise a ValueError if the name is not allowed."""
        if not (isinstance(name, str) and name.isidentifier()) or name in self._taken:
            raise ValueError(
                f"`name` must be an identifier other than those of the built-in "
                f"{self._noun}, {self._taken}. Got {name!r}."
            )
        self._check(entry)
        self[name] = entry


def unknown_name(rule: str, name: Any, names: Iterable[str]) -> str:
    """Return the error message for an unknown name, with similar names."""
    near = near_matches(name, names) if isinstance(name, str) else ""
    return f"{rule.format(names=[*names])}. Got {name!r}.{near}"


def check_parts(thing: Any, protocol: type, noun: str) -> None:
    """Raise a TypeError that names the parts of a protocol that an object lacks."""
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
