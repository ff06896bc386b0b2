"""A hash of things that may hold and refer to each other."""

import hashlib
from dataclasses import dataclass, field

from sktransfer.utils._libraries import library_version

__all__ = ["TooMuchError", "Writer"]

_MOST = 1_000_000  # things in one description


class TooMuchError(Exception):
    """There are too many things to describe."""


@dataclass
class _Found:
    """What one description shares with those of the members of its sets."""

    reasons: list = field(default_factory=list)
    has_code: bool = False
    n: int = 0
    versions: dict = field(default_factory=dict)
    open_sets: set = field(default_factory=set)


class Writer:
    """Hashes what it is given, one thing after the other.

    What has been met before goes by its number, so that cycles end.

    Parameters
    ----------
    by_type : dict of type to callable
        Each gets the writer and a value of exactly this type.
    by_kind : sequence of (type or tuple of type, callable)
        For the values of all other types; the first that fits is taken.
    tensors : TensorDigests
        Hashes of tensors that are known.

    Attributes
    ----------
    found : object
        ``reasons`` why the description is not complete, and whether it ``has_code``.
    """

    def __init__(self, by_type, by_kind, tensors, found=None):
        self.tensors = tensors
        self.found = _Found() if found is None else found
        self.has_common = False
        self._handlers = by_type, by_kind
        self._hash = hashlib.sha256()
        self._seen = {}

    def twin(self):
        """Return one for a thing that is described by itself (Writer)."""
        return Writer(*self._handlers, self.tensors, self.found)

    def hexdigest(self):
        """Return the hash of all so far (str)."""
        return self._hash.hexdigest()[:32]

    def give_up(self, reason):
        """Say what cannot be described."""
        self.found.reasons.append(reason)
        self.put("?", reason)

    def put(self, *words):
        """Hash texts and bytes; where one ends and the next begins counts."""
        for word in words:
            if not isinstance(word, bytes):
                word = str(word).encode("utf-8", "surrogatepass")
            self._hash.update(b"%d:" % len(word))
            self._hash.update(word)

    def add(self, value):
        """Describe one thing."""
        self.found.n += 1
        if self.found.n > _MOST:
            raise TooMuchError(f"an object that holds more than {_MOST} others")
        by_type, by_kind = self._handlers
        handle = by_type.get(type(value))
        if handle is None:
            handle = next(h for kind, h in by_kind if isinstance(value, kind))
        try:
            handle(self, value)
        except (TooMuchError, RecursionError):
            raise
        except Exception as error:
            self.give_up(f"{name_of(value)} ({type(error).__name__}: {error})")

    def is_new(self, value):
        """Say whether a thing is met for the first time; put its number if not."""
        known = self._seen.get(id(value))
        if known is not None:
            self.put("again", known[0])
            return False
        self._seen[id(value)] = len(self._seen), value  # which keeps it alive
        return True

    def add_tuple(self, values):
        """Describe some things in order."""
        self.put("tuple", len(values))
        for value in values:
            self.add(value)

    def add_named(self, named):
        """Describe values by name, in an order that does not depend on the past."""
        self.put("named", len(named))
        for name, value in sorted(named.items(), key=lambda pair: str(pair[0])):
            self.put(name)
            self.add(value)

    def version(self, name):
        """Return the version of a library (str or None), found once a description."""
        versions = self.found.versions
        if name not in versions:
            versions[name] = library_version(name)
        return versions[name]


def name_of(value):
    """Say in a message what an object is (str)."""
    name = getattr(type(value), "__qualname__", "")
    if isinstance(getattr(value, "__qualname__", None), str):
        return f"`{value.__qualname__}`"
    return f"an object of type {type(value).__module__}.{name}"
