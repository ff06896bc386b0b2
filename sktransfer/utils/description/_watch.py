"""Changes of a network's code, settings and hooks, which are noticed at low cost."""

import operator
import types
from collections import deque
from collections.abc import Callable, Sized
from functools import cached_property, partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from sktransfer.utils._tensors import tensor_digest
from sktransfer.utils.description._code import names_of, resolve_imports
from sktransfer.utils.description._describe import describe
from sktransfer.utils.description._libraries import (
    Survey,
    is_library_function,
    library_version,
    survey_class,
)
from sktransfer.utils.description._library_lock import library_lock
from sktransfer.utils.description._objects import READ_OF_MODULES

_MOST = 50_000  # things that are looked at
_MISSING = object()
_OF_ALL_MODULES = {*vars(nn.Module())}
# Values that cannot change. Those of tensors are left out.
_FIXED: tuple = (int, float, complex, str, bytes, type(None), torch.Tensor, np.generic)
_FIXED += (types.BuiltinFunctionType, torch.dtype, torch.device, torch.layout)
_COLLECTIONS = (list, set, deque)
# What is made of other functions, and the attributes that hold these.
_WRAPPERS: tuple = (
    types.MethodType,
    staticmethod,
    classmethod,
    property,
    cached_property,
)
_WRAPPERS += (partial,)
_WRAPPED = ("__func__", "__self__", "fget", "func", "args", "keywords")


class Watch:
    """Notices when the code, the settings or the hooks of a network change.

    Values of parameters and buffers, and whether the network is in train mode, don't
    count. What its forward methods can read is compared by identity, which is fast.
    Only where that differs, or does not suffice, the network is described and the
    description compared. `digest` is the description of an equal network, if there is
    one.
    """

    def __init__(self, module: nn.Module, digest: str | None = None):
        self._module = module
        with library_lock:
            self.digest = _digest(module) if digest is None else digest
            self._seen = _Seen(module)

    def has_changed(self) -> bool:
        """Return whether the network is not as it was."""
        with library_lock:
            if self._seen.holds():
                return False
            if _digest(self._module) != self.digest:
                return True
            self._seen = _Seen(self._module)
            return False


def _digest(module):
    return describe(module, tensors=_Shapes(module)).digest


class _Shapes:
    """Stands for the hashes of tensors; the values of weights don't count."""

    def __init__(self, module):
        weights = [*module.parameters(), *module.buffers()]
        self._weights = {id(tensor) for tensor in weights}

    def digest(self, tensor: torch.Tensor) -> bytes:
        """Return the hash of a plain tensor, and the shape of a weight."""
        if id(tensor) in self._weights:
            return f"{tuple(tensor.shape)}".encode()
        return tensor_digest(tensor)


class _Part(NamedTuple):
    """A function that reads values, and what these were."""

    read: Callable[[], tuple]
    values: tuple

    def holds(self):
        """Return whether the values are as they were."""
        now = self.read()
        return len(now) == len(self.values) and all(map(operator.is_, now, self.values))


class _Seen:
    """All that the forward methods of a network can read, by identity."""

    def __init__(self, module):
        self._parts: list[_Part] = []
        self._spaces: list[tuple] = []  # and what reads their values
        self._values: list[object] = []  # of all spaces
        self._empty: list[Sized] = []
        self._surveys: list[Survey] = []
        self._objects: dict[int, object] = {}
        self._is_whole = True
        pending, known = [module], {}
        while pending and self._is_whole:
            value = pending.pop()
            if isinstance(value, _FIXED) or id(value) in known:
                continue
            known[id(value)] = value  # which keeps it alive
            try:
                pending += self._look_at(value)
            except Exception:  # of an object that does not show what it consists of
                self._is_whole = False
            self._is_whole &= len(known) < _MOST
        self._types = [*map(type, self._objects.values())]
        self._sizes = [len(space) for _, space in self._spaces]

    def holds(self):
        """Return whether all is as it was, as far as identity tells."""
        return (
            self._is_whole
            and not any(self._empty)
            and all(map(operator.is_, map(type, self._objects.values()), self._types))
            and self._spaces_hold()
            and all([part.holds() for part in self._parts])
            and all([survey.holds() for survey in self._surveys])
        )

    def _spaces_hold(self):
        if [len(space) for _, space in self._spaces] != self._sizes:
            return False
        try:
            now = [read(space) for read, space in self._spaces]
        except KeyError:  # there is another name in the place of one
            return False
        return all(map(operator.is_, chain.from_iterable(now), self._values))

    def _look_at(self, value):
        """Remember the parts of a value, and return them (iterable)."""
        if isinstance(value, dict):
            return self._add_space(value, [*value])
        if isinstance(value, tuple | frozenset):
            return value
        if isinstance(value, _COLLECTIONS):
            return self._add(partial(tuple, value))
        if isinstance(value, types.FunctionType):
            return self._look_at_function(value)
        if isinstance(value, type):
            return self._look_at_class(value)
        if isinstance(value, types.ModuleType):  # in an attribute
            self._is_whole &= library_version(value.__name__) is not None
            return ()
        if isinstance(value, _WRAPPERS):
            return [getattr(value, name, None) for name in _WRAPPED]
        return self._look_at_object(value)

    def _add(self, read):
        part = _Part(read, read())
        self._parts.append(part)
        return part.values

    def _add_space(self, space, names):
        if not space:
            self._empty.append(space)
            return ()
        # Of two names or more, a getter returns a tuple.
        read = operator.itemgetter(*names, names[0]) if names else _nothing
        values = read(space)
        self._spaces.append((read, space))
        self._values += values
        return values

    def _look_at_function(self, function):
        if is_library_function(function):
            return ()
        names = names_of(function.__code__)
        found = [*self._add(partial(_of_function, function))]
        for module in resolve_imports(function):
            found += self._look_at_names(vars(module), names.attributes, names)
        return [
            *found,
            *self._look_at_names(function.__globals__, names.globals, names),
        ]

    def _look_at_names(self, space, looked_up, names):
        """Remember what code finds in a namespace, and in modules that it finds there.

        `names` are those in the code.
        """
        found, spaces = [], {id(space): (space, looked_up)}
        pending = [*spaces.values()]
        while pending:
            space, looked_up = pending.pop()
            values = self._add(partial(_look_up, space, looked_up))
            for value in values:
                if (
                    isinstance(value, types.ModuleType)
                    and id(vars(value)) not in spaces
                ):
                    spaces[id(vars(value))] = vars(value), names.attributes
                    pending.append(spaces[id(vars(value))])
            found += [v for v in values if not isinstance(v, types.ModuleType)]
        return found

    def _look_at_class(self, kind):
        if library_version(kind.__module__) is None:
            return [*self._add_space(vars(kind), [*vars(kind)]), *kind.__bases__]
        if issubclass(kind, nn.Module):
            self._surveys.append(survey_class(kind))
        return kind.__bases__ if kind is not nn.Module else ()

    def _look_at_object(self, value):
        kind, space = type(value), getattr(value, "__dict__", None)
        if isinstance(space, dict) and not _has_slots(kind):
            self._objects[id(value)] = value
            if not isinstance(value, nn.Module):
                return [kind, *self._add_space(space, [*space])]
            inner = [space[name] for name in READ_OF_MODULES & space.keys()]
            names = [name for name in space if name not in _OF_ALL_MODULES]
            return [kind, *inner, *self._add_space(space, names)]
        if library_version(kind.__module__) is None or kind is np.ndarray:
            self._is_whole = False  # it may hold what identity does not show
        return ()


def _nothing(space):
    return ()


def _look_up(space, names):
    return tuple([space.get(name, _MISSING) for name in names])


def _has_slots(kind):
    return any(vars(base).get("__slots__") for base in kind.__mro__)


def _of_function(function):
    closure = map(_content, function.__closure__ or ())
    defaults = function.__defaults__, function.__kwdefaults__
    return function.__code__, *defaults, function.__dict__, *closure


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # it is still empty
        return _MISSING
