"""Keys of living objects, for those that cannot be described."""

import hashlib
import uuid
import weakref

__all__ = ["join_key", "process_key"]

_keys: dict[int, tuple[weakref.ref, str]] = {}


def process_key(obj):
    """Return a key that no other object has, in this process or in another.

    Parameters
    ----------
    obj : object

    Returns
    -------
    str
        Hexadecimal, 32 digits. The same for the same object as long as it lives; a new
        one each time if it cannot be weakly referenced, as lists cannot.
    """
    number = id(obj)
    known = _keys.get(number)
    if known is not None and known[0]() is obj:
        return known[1]
    new = uuid.uuid4().hex
    try:
        reference = weakref.ref(obj, lambda ref: _forget(number, ref))
    except TypeError:
        return new
    return _keys.setdefault(number, (reference, new))[1]  # of two threads, the first's


def _forget(number, reference):
    known = _keys.get(number)
    if known is not None and known[0] is reference:
        _keys.pop(number, None)


def join_key(description, owner):
    """Return a text that stands for a description, complete or not.

    Parameters
    ----------
    description : Description
    owner : object
        The living object that was described.

    Returns
    -------
    str
        Hexadecimal, 32 digits. Of a description that is not complete, none that comes
        again with another object or in another process.
    """
    if description.is_complete:
        return description.digest
    key = f"{description.digest} {process_key(owner)}"
    return hashlib.sha256(key.encode()).hexdigest()[:32]
