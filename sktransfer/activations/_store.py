"""Stores of activations in memory and on disk, and the choice of what to store."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sktransfer.activations._batches import n_bytes, shape_after, without_count
from sktransfer.activations._claims import Claims
from sktransfer.activations._disk_store import open_disk_store
from sktransfer.compute import in_forked_child
from sktransfer.utils import digest, get_config

# Part of every key: another number where a pass begins to return other values.
_VERSION = "pass-3"

# Activations that nobody asked for may fill this share of the budget of a store, and
# take this share of the time that they save.
_UNASKED_SHARE = 0.5
_UNASKED_COST = 0.15
_FLOATS = (np.dtype(np.float16), np.dtype(np.float32))
_INPUTS = (np.dtype(np.uint8), np.dtype(np.float32))  # pixels and vectors
_EXACT = (np.dtype(bool), np.dtype(np.int32), np.dtype(np.int64))  # masks and ids


@dataclass(frozen=True)
class Cost:
    """Cost of computing, and of storing, the activation of one sample at a boundary."""

    boundary: str
    asked: bool  # whether it is a target; otherwise it is on the way to one
    bytes_per_sample: int
    compute_seconds: float  # from the start of the pass
    keep_seconds: float  # to make the row that is stored
    kept: bool = False
    reason: str = ""


def choose(measured: list[Cost], n_samples: int, budget: int) -> list[Cost]:
    """Decide which activations of a pass of `n_samples` samples are stored.

    A target is stored if that is faster than computing it and fits the budget, in
    bytes. Other boundaries on the way, in order of the time that they save per byte,
    are stored until they fill half of the budget; those whose storing takes more than
    15% of the time from the previous stored boundary are not. Costs are in order of
    execution.
    """
    decided, before = {}, 0.0
    for cost in measured:
        size = n_samples * cost.bytes_per_sample
        decided[cost.boundary] = _decide(cost, size, budget, before)
        if decided[cost.boundary].kept:
            before = cost.compute_seconds
    free = _UNASKED_SHARE * budget
    worthwhile = [cost for cost in decided.values() if cost.kept and not cost.asked]
    for cost in sorted(worthwhile, key=_saving, reverse=True):
        size = n_samples * cost.bytes_per_sample
        if size > free:
            reason = "others save more time in the budget"
            decided[cost.boundary] = replace(cost, kept=False, reason=reason)
        else:
            free -= size
    return list(decided.values())


def _saving(cost):
    return cost.compute_seconds / max(1, cost.bytes_per_sample)


def _decide(cost, size, budget, before):
    saved = cost.compute_seconds - before
    if cost.keep_seconds >= cost.compute_seconds:
        reason = "faster to compute than to keep"
    elif not cost.asked and cost.keep_seconds > _UNASKED_COST * saved:
        reason = "not asked for, and not cheap to keep"
    elif size > budget:
        reason = f"{size:,} bytes exceed the budget of {budget:,}"
    else:
        return replace(cost, kept=True, reason="faster to keep than to compute")
    return replace(cost, reason=reason)


@dataclass(frozen=True)
class Namespace:
    """Namespace of a store: the rows of one target, by the digests of samples."""

    key: bytes  # hash of everything that a row depends on, except the sample
    # Of one row; None if it varies. In a group, the first axis of arrays may vary.
    shape: tuple | dict | None
    is_input: bool  # model inputs are not rounded
    on_disk: bool = True  # False if the key is valid in this process alone

    def get(self, store: "Store", digests: list[bytes]) -> dict:
        """Return the rows that are stored, by the digests of their samples."""
        keys, n = [self.key + digest for digest in digests], len(self.key)
        found = store.get(keys, on_disk=self.on_disk, fits=self._is_row)
        return {key[n:]: row for key, row in found.items()}

    def contains(self, store: "Store", digests: Iterable[bytes]) -> set[bytes]:
        """Return the digests of the samples that are stored."""
        keys, n = [self.key + digest for digest in digests], len(self.key)
        return {key[n:] for key in store.contains(keys, on_disk=self.on_disk)}

    def with_keys(self, digests: list, rows: list) -> dict:
        """Return rows by their keys in the store, except where the digest is None."""
        pairs = zip(digests, rows, strict=True)
        return {self.key + digest: row for digest, row in pairs if digest is not None}

    def _is_row(self, row):
        """Return whether a row fits in dtype and shape, as a file may be forged."""
        row = without_count(row)
        if self.shape is None:
            parts = row.values() if isinstance(row, dict) else [row]
            return all(self._is_array(array, array.shape) for array in parts)
        if not isinstance(self.shape, dict):
            return isinstance(row, np.ndarray) and self._is_array(row, self.shape)
        return (
            isinstance(row, dict)
            and row.keys() == self.shape.keys()
            and all(
                row[name].ndim == len(shape)
                and self._is_array(row[name], (*row[name].shape[:1], *shape[1:]))
                for name, shape in self.shape.items()
            )
        )

    def _is_array(self, array, shape):
        dtypes = (_INPUTS if self.is_input else _FLOATS) + _EXACT
        return array.shape == tuple(shape) and array.dtype in dtypes


def make_namespace(backbone, boundary, tap, described, prepared, settings, own_key):
    """Return the namespace of what a tap computes from activations at a boundary.

    `described` is the description of the tap. Without one (None) it is that of an
    identity, and the namespace that of the activations. `prepared` is what
    `preprocessing_key` returns, and `settings` the key of the runtime. If something
    cannot be described, the key also holds `own_key`, which belongs to one pass, so
    that no other pass finds these rows.
    """
    preprocessing, is_known = prepared
    is_known = (
        is_known
        and described.is_complete
        and backbone.describe_prefix(boundary).is_complete
    )
    key = digest(
        _VERSION,
        preprocessing,
        backbone.prefix_fingerprint(boundary),
        described.digest,
        settings,
        "" if is_known else own_key,
    )
    is_input = boundary == "input"
    if is_input:
        shape = backbone.preprocessing.prepared_shape
    else:
        shape = backbone.activation_shape(boundary)
    if tap is not None and shape is not None:
        shape = shape_after(tap, shape)
    return Namespace(key, shape, is_input, on_disk=is_known)


class MemoryStore:
    """A dict of rows that discards the least recently used ones; safe for threads.

    The budget of :func:`sktransfer.set_config` is looked up at every write.
    """

    def __init__(self):
        self._rows = OrderedDict()
        self._lock = threading.Lock()
        self.nbytes = 0

    def renew(self) -> None:
        """Replace the lock in a forked process, where no other thread is left."""
        self._lock = threading.Lock()
        self.nbytes = sum(map(n_bytes, self._rows.values()))

    def __len__(self):
        return len(self._rows)

    def contains(self, keys: Iterable[bytes]) -> set[bytes]:
        """Return the keys that are stored."""
        with self._lock:
            return {key for key in keys if key in self._rows}

    def get(self, keys: Iterable[bytes]) -> dict:
        """Return the rows that are stored, by key."""
        found = {}
        with self._lock:
            for key in keys:
                row = self._rows.get(key)
                if row is not None:
                    self._rows.move_to_end(key)
                    found[key] = row
        return found

    def put(self, rows: dict) -> None:
        """Store rows by key; nobody may write to them afterwards."""
        budget = get_config()["memory_budget"]
        sizes = {key: n_bytes(row) for key, row in rows.items()}
        with self._lock:
            for key, row in rows.items():
                if sizes[key] <= budget:
                    self._forget(key)
                    self._rows[key] = row
                    self.nbytes += sizes[key]
            while self.nbytes > budget:
                self._forget(next(iter(self._rows)))

    def delete(self, keys: Iterable[bytes]) -> None:
        """Discard some keys."""
        with self._lock:
            for key in keys:
                self._forget(key)

    def clear(self) -> None:
        """Discard everything."""
        with self._lock:
            self._rows.clear()
            self.nbytes = 0

    def _forget(self, key):
        row = self._rows.pop(key, None)
        self.nbytes -= 0 if row is None else n_bytes(row)


_process_store = MemoryStore()
in_forked_child(_process_store.renew)


def process_store() -> MemoryStore:
    """Return the store that all estimators of this process share."""
    return _process_store


class Store:
    """Looks in memory first, then on disk; rows found there are copied to memory.

    With ``on_disk=False``, methods use memory alone, for keys that other processes must
    not share.
    """

    def __init__(self, memory, disk=None):
        self.memory = memory
        self.disk = disk

    @property
    def budget(self) -> int:
        """Budget of the larger of the two, in bytes."""
        config = get_config()
        if self.disk is None:
            return config["memory_budget"]
        return max(config["memory_budget"], config["disk_budget"])

    def contains(self, keys: Collection[bytes], *, on_disk: bool = True) -> set[bytes]:
        """Return the keys that are stored."""
        here = self.memory.contains(keys)
        if self.disk is not None and on_disk and len(here) < len(keys):
            here |= self.disk.contains([key for key in keys if key not in here])
        return here

    def get(
        self,
        keys: Collection[bytes],
        *,
        on_disk: bool = True,
        fits: Callable | None = None,
    ) -> dict:
        """Return the rows that are stored, by key.

        Rows for which `fits(row)` is False come from a damaged or foreign file, as
        their shape or dtype is wrong. They are deleted, and count as missing.
        """
        found = _fitting(self.memory, keys, fits)
        if self.disk is not None and on_disk and len(found) < len(keys):
            missing = [key for key in keys if key not in found]
            read = _fitting(self.disk, missing, fits)
            self.memory.put(read)
            found |= read
        return found

    def claims(self, scope: bytes) -> Claims:
        """Return claims that all users of the store share."""
        return Claims(None if self.disk is None else self.disk.claims_path, scope)

    def put(self, rows: dict, *, on_disk: bool = True) -> None:
        """Store rows by key; nobody may write to them afterwards."""
        self.memory.put(rows)
        if self.disk is not None and on_disk:
            self.disk.put(rows)


def _fitting(store, keys, fits):
    found = store.get(keys)
    if fits is None:
        return found
    unfit = {key for key, row in found.items() if not fits(row)}
    store.delete(unfit)
    return {key: row for key, row in found.items() if key not in unfit}


def open_store(memory: Any = None) -> Store:
    """Return the store for the parameter `memory` of an estimator.

    None keeps activations in this process alone; a folder, or a `joblib.Memory` with
    one, on disk as well. Anything else raises a TypeError.
    """
    folder = getattr(memory, "location", memory)  # None: of joblib.Memory(None), too
    if folder is None:
        return Store(process_store())
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(
            f"`memory` must be a folder, a joblib.Memory or None. Got {memory!r}."
        )
    return Store(process_store(), open_disk_store(folder))
