"""Description of objects: the hash of everything that can change what they compute."""

import hashlib
import pathlib
import re
import struct
import threading
import types
import uuid
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakIdKeyDictionary

from sktransfer.utils._tensors import TensorDigests
from sktransfer.utils.description import _code  # noqa: F401  (registers functions)
from sktransfer.utils.description._data import PLAIN_TENSORS, tensor_parts
from sktransfer.utils.description._library_lock import library_lock
from sktransfer.utils.description._objects import Unknown, name_of, take_apart

DIGEST_SIZE = 16  # bytes
_MAX_PARTS = 2_000_000  # of one description
# Values that consist of nothing simpler, and what is hashed of them beside their type.
_LEAVES: dict[type, Callable] = {
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
_NAMES: dict[type, str] = dict.fromkeys(
    PLAIN_TENSORS, "Tensor"
)  # a parameter computes the same
_CONTAINERS: dict[type, Callable] = {tuple: iter, list: iter, dict: dict.items}
# Equal values of these types are described alike, whether or not they are one object.
# All other objects may be changed, or refer to themselves: when they occur again, a
# number refers to the first time.
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
_keys = WeakIdKeyDictionary()  # object: key


def digest(*parts: str | bytes) -> bytes:
    """Hash texts and bytes, and where each of them ends."""
    state = hashlib.blake2b(digest_size=DIGEST_SIZE)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(f"{len(data)}:".encode())
        state.update(data)
    return state.digest()


@dataclass(frozen=True)
class Description:
    """Hash of everything that can change what an object computes.

    `digest` has 32 hexadecimal digits, the same in every process. `is_complete` says
    whether equal digests mean equal results; otherwise `reason` states what could not
    be described. `has_code` says whether some code comes from no library, so that it
    may be edited while the version of every library stays the same.
    """

    digest: str
    is_complete: bool
    reason: str
    has_code: bool


def describe(obj: Any, *, tensors: TensorDigests | None = None) -> Description:
    """Describe an object by everything that can change what it computes.

    Whether a module is in train or eval mode is left out, and so is the device of
    tensors. `tensors` keeps hashes of tensors from one description to the next. The
    description is incomplete where the object holds something that cannot be described,
    such as an open file, or where its code looks something up by a name that is
    computed, as with ``globals()`` or ``eval``.

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
    with library_lock:
        digest = walk.digest(obj)
    reason = "; ".join(dict.fromkeys(walk.reasons))
    return Description(digest, not reason, reason, types.CodeType in walk.kinds)


class _Walk:
    """Depth-first walk through everything that an object consists of.

    It gathers the reasons why something could not be described, and the types of
    everything that it met.
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

    def digest(self, root: Any) -> str:
        """Hash a value and everything that it consists of."""
        state, pending = hashlib.sha256(), [root]
        seen: dict[int, tuple[int, Any]] = {}
        while pending:
            value = pending.pop()
            kind, parts = type(value), []
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
                    parts = [Unknown(_why_unknown(error, value))]
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
        """Return the hashes of the members of a set, in the order of the hashes."""
        if id(members) in self._open_sets:  # it holds something that holds it
            return []
        self._open_sets.add(id(members))
        digests = sorted(self.digest(member) for member in members)
        self._open_sets.discard(id(members))
        return digests


def _why_unknown(error, value):
    """State why a value could not be taken apart."""
    if isinstance(error, RecursionError):
        return "objects that are nested too deeply"
    return f"{name_of(value)} ({type(error).__name__}: {error})"


def process_key(obj: Any) -> str:
    """Return a key that no other object has, in this process or in another.

    It has 32 hexadecimal digits, and is the same for the same object as long as it
    lives. An object that cannot be weakly referenced, such as a list, gets a new key at
    each call.
    """
    try:
        return _keys.setdefault(obj, uuid.uuid4().hex)
    except TypeError:  # it cannot be weakly referenced
        return uuid.uuid4().hex


def join_key(description: Description, owner: Any) -> str:
    """Make a key of a description, with 32 hexadecimal digits.

    All objects with the same complete description have the same key. If the description
    is incomplete, the key belongs to the owner, the living object that was described,
    and never occurs again.
    """
    if description.is_complete:
        return description.digest
    return digest(description.digest, process_key(owner)).hex()
