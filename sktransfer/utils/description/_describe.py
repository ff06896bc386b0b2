"""The walk through everything that can change a result, and keys made of its hash."""

import hashlib
import pathlib
import re
import struct
import threading
import types
import uuid
import weakref
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch.utils.hooks import RemovableHandle

from sktransfer.utils.description import _code  # noqa: F401  (registers functions)
from sktransfer.utils.description._data import PLAIN_TENSORS, tensor_parts
from sktransfer.utils.description._objects import Unknown, name_of, take_apart

__all__ = ["Description", "describe", "join_key", "process_key"]

_MAX_PARTS = 2_000_000  # of one description
# Values that consist of nothing simpler, and what is hashed of them beside their type.
_LEAVES = {
    **dict.fromkeys((type(None), type(...), type(NotImplemented), bool, range), repr),
    **dict.fromkeys((torch.dtype, torch.device, torch.layout), repr),
    **dict.fromkeys((torch.memory_format, torch.finfo, torch.iinfo), repr),
    **dict.fromkeys((type(threading.Lock()), type(threading.RLock())), type),
    RemovableHandle: type,  # its hook is described with the module
    int: hex,
    float: struct.Struct("<d").pack,
    complex: repr,
    str: str,
    Unknown: str,
    bytes: bytes,
    bytearray: bytes,
}
_NAMES = dict.fromkeys(PLAIN_TENSORS, "Tensor")  # a parameter computes the same
_CONTAINERS = {tuple: iter, list: iter, dict: dict.items}
# Two of these that are equal are the same, whether or not they are one object. All
# others may be changed, or refer to themselves: the second time they go by a number.
_BY_CONTENT = (
    Image.Image,
    classmethod,
    frozenset,
    np.generic,
    np.ndarray,
    pathlib.PurePath,
    property,
    re.Pattern,
    set,
    slice,
    staticmethod,
    torch.Tensor,
    tuple,
    types.BuiltinFunctionType,
    types.CellType,
    types.CodeType,
    types.MappingProxyType,
    types.MethodType,
    types.MethodWrapperType,
    weakref.ReferenceType,
)
_keys: dict[int, tuple[weakref.ref, str]] = {}


@dataclass(frozen=True)
class Description:
    """Hash of everything that can change what an object computes.

    Attributes
    ----------
    digest : str
        Hexadecimal, 32 digits. The same in every process.
    is_complete : bool
        Whether equal digests mean equal results.
    reason : str
        What could not be described; "" if the description is complete.
    has_code : bool
        Whether there is code that comes from no library, and so may be edited while
        the version of every library stays the same.
    """

    digest: str
    is_complete: bool
    reason: str
    has_code: bool


def describe(obj, *, tensors=None):
    """Describe an object by everything that can change what it computes.

    Values, arrays and tensors go by their content and type, but not by their device.
    Functions and classes of installed libraries go by their names and the version of
    the library, their objects by their attributes. Whether a module is in train or eval
    mode is left out. All other code is described by itself: instructions, constants,
    defaults, closures, the globals that it refers to, class attributes, decorators and
    hooks. So are functions that replace a library's own.

    Parameters
    ----------
    obj : object
    tensors : TensorDigests, default=None
        Hashes of tensors that are kept from one description to the next. None hashes
        all tensors.

    Returns
    -------
    Description
        Incomplete where the object holds something that cannot be described, such as an
        open file, or where its code looks something up by a name that is computed, as
        with ``globals()`` or ``eval``.

    See Also
    --------
    join_key : Make a key of a description, complete or not.

    Examples
    --------
    >>> from torch import nn
    >>> from sktransfer.utils import describe
    >>> describe(nn.ReLU()) == describe(nn.ReLU())
    True
    >>> describe(lambda x: 2 * x).digest == describe(lambda x: 3 * x).digest
    False
    >>> describe(lambda path: open(path)).reason
    'code that uses `open`'
    """
    walk = _Walk(tensors)
    digest = walk.digest(obj)
    reason = "; ".join(dict.fromkeys(walk.reasons))
    return Description(digest, not reason, reason, types.CodeType in walk.kinds)


class _Walk:
    """Goes through everything that an object consists of, depth first.

    Parameters
    ----------
    tensors : TensorDigests or None

    Attributes
    ----------
    reasons : list of str
        Why something could not be described.
    kinds : set of type
        Types of everything that was met.
    """

    def __init__(self, tensors):
        self.reasons, self.kinds = [], set()
        self._n_parts, self._open_sets = 0, set()
        self._take_apart = {
            **_CONTAINERS,
            set: self._members,
            frozenset: self._members,
            **dict.fromkeys(PLAIN_TENSORS, partial(tensor_parts, digests=tensors)),
        }

    def digest(self, root):
        """Hash a value and everything that it consists of (str)."""
        state, seen, pending = hashlib.sha256(), {}, [root]
        while pending:
            value = pending.pop()
            kind, parts = type(value), ()
            self.kinds.add(kind)
            if kind in _LEAVES:
                word = kind.__name__, _LEAVES[kind](value)
            elif id(value) in seen:
                word = "again", seen[id(value)][0]
            else:
                if not issubclass(kind, _BY_CONTENT):
                    seen[id(value)] = len(seen), value  # which keeps it alive
                try:
                    parts = [*self._take_apart.get(kind, take_apart)(value)]
                except Exception as error:
                    parts = [Unknown(_say(error, value))]
                word = _NAMES.get(kind, kind.__name__), len(parts)
            state.update(ascii(word).encode() + b"\n")
            pending.extend(reversed(parts))
            self._n_parts += len(parts)
            if kind is Unknown:
                self.reasons.append(value)
            if self._n_parts > _MAX_PARTS:
                self.reasons.append(f"an object of more than {_MAX_PARTS} parts")
                break
        return state.hexdigest()[:32]

    def _members(self, members):
        """Return the hashes of the members of a set, in an order of their own."""
        if id(members) in self._open_sets:  # it holds something that holds it
            return []
        self._open_sets.add(id(members))
        digests = sorted(self.digest(member) for member in members)
        self._open_sets.discard(id(members))
        return digests


def _say(error, value):
    """Return why a value could not be taken apart (str)."""
    if isinstance(error, RecursionError):
        return "objects that are nested too deeply"
    return f"{name_of(value)} ({type(error).__name__}: {error})"


def process_key(obj):
    """Return a key that no other object has, in this process or in another.

    Parameters
    ----------
    obj : object

    Returns
    -------
    str
        Hexadecimal, 32 digits. The same for the same object as long as it lives; a new
        one at each call if it cannot be weakly referenced, as lists cannot.
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
    """Make a key of a description: one that never comes again if it is incomplete.

    Parameters
    ----------
    description : Description
    owner : object
        The living object that was described.

    Returns
    -------
    str
        Hexadecimal, 32 digits. If the description is complete, the same for all that
        have the same description; otherwise for the owner alone.
    """
    if description.is_complete:
        return description.digest
    key = f"{description.digest} {process_key(owner)}"
    return hashlib.sha256(key.encode()).hexdigest()[:32]
