"""What is kept of activations, and where: in memory first, then in a folder."""

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np

from sktransfer.activations._batches import n_bytes
from sktransfer.activations._disk_store import open_disk_store
from sktransfer.compute import in_forked_child
from sktransfer.utils import get_config

__all__ = ["Cost", "MemoryStore", "Space", "Store", "choose", "open_store"]

# Activations that were not asked for may fill this share of a store's budget, and take
# this share of the time that they save.
_UNASKED_SHARE = 0.5
_UNASKED_COST = 0.15
_FLOATS = (np.dtype(np.float16), np.dtype(np.float32))
_INPUTS = (np.dtype(np.uint8), np.dtype(np.float32))  # pixels, and rows of numbers
_EXACT = (np.dtype(bool), np.dtype(np.int32), np.dtype(np.int64))  # masks and ids


@dataclass(frozen=True)
class Cost:
    """What it takes to compute and to keep the activation at a boundary.

    Attributes
    ----------
    boundary : str
    asked : bool
        Whether it is a target; otherwise it lies on the way to one.
    bytes_per_sample : int
    compute_seconds : float
        To bring one sample there from where the pass began.
    keep_seconds : float
        To put one sample's activation into the form in which it is kept.
    kept : bool
    reason : str
    """

    boundary: str
    asked: bool
    bytes_per_sample: int
    compute_seconds: float
    keep_seconds: float
    kept: bool = False
    reason: str = ""


def choose(measured, n_samples, budget):
    """Decide which activations of a pass are kept.

    Parameters
    ----------
    measured : list of Cost
        Undecided, in order of execution.
    n_samples : int
        Number of samples of the pass.
    budget : int
        Bytes that the store may take.

    Returns
    -------
    list of Cost
        Decided, in the same order. A target is kept if keeping it is faster than
        computing it and it fits the budget. Of the others, those that save most time
        per byte come first, until they fill half of the budget; those that take more
        than 15% of the time from the boundary kept before them are not kept.
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
class Space:
    """The rows of one target, of any sample, in a store.

    Attributes
    ----------
    key : bytes
        Hash of everything that a row depends on, except the sample.
    shape : tuple of int, dict of str to tuple of int or None
        Of one row. Arrays of a group may differ from it in their first axis, which is
        the length of the sample. None where it is not known.
    is_input : bool
        Whether rows are model inputs, which are not rounded.
    on_disk : bool, default=True
        False where the key is valid in this process only, as not everything that a row
        depends on can be described.
    """

    key: bytes
    shape: tuple | dict
    is_input: bool
    on_disk: bool = True

    def get(self, store, digests):
        """Return the rows that are stored, by the digests of samples (dict)."""
        keys, n = [self.key + digest for digest in digests], len(self.key)
        found = store.get(keys, on_disk=self.on_disk, fits=self._is_row)
        return {key[n:]: row for key, row in found.items()}

    def contains(self, store, digests):
        """Return the digests of the samples that are stored (set of bytes)."""
        keys, n = [self.key + digest for digest in digests], len(self.key)
        return {key[n:] for key in store.contains(keys, on_disk=self.on_disk)}

    def with_keys(self, digests, rows):
        """Map the keys of rows to them (dict), but not where the digest is None."""
        pairs = zip(digests, rows, strict=True)
        return {self.key + digest: row for digest, row in pairs if digest is not None}

    def _is_row(self, row):
        """Whether a row can have been stored: files can be damaged, or forged."""
        if self.shape is None:
            parts = row.values() if isinstance(row, dict) else [row]
            return all(self._is_array(part, part.shape) for part in parts)
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


class MemoryStore:
    """A dict of rows that forgets the least recently used.

    Safe for threads. The budget is looked up at every write, see
    :func:`sktransfer.set_config`.
    """

    def __init__(self):
        self._rows = OrderedDict()
        self._lock = threading.Lock()
        self.nbytes = 0

    def renew(self):
        """Go on in a forked process, where no other thread is left."""
        self._lock = threading.Lock()
        self.nbytes = sum(map(n_bytes, self._rows.values()))

    def __len__(self):
        return len(self._rows)

    def contains(self, keys):
        """Return the keys that are here (set of bytes)."""
        with self._lock:
            return {key for key in keys if key in self._rows}

    def get(self, keys):
        """Return the rows that are here (dict of bytes to row)."""
        found = {}
        with self._lock:
            for key in keys:
                row = self._rows.get(key)
                if row is not None:
                    self._rows.move_to_end(key)
                    found[key] = row
        return found

    def put(self, rows):
        """Keep rows (dict of bytes to row). They must not be written to."""
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

    def delete(self, keys):
        """Forget some keys."""
        with self._lock:
            for key in keys:
                self._forget(key)

    def clear(self):
        """Forget everything."""
        with self._lock:
            self._rows.clear()
            self.nbytes = 0

    def _forget(self, key):
        row = self._rows.pop(key, None)
        self.nbytes -= 0 if row is None else n_bytes(row)


_process_store = MemoryStore()
in_forked_child(_process_store.renew)


def process_store():
    """Return the store that all estimators of this process share."""
    return _process_store


class Store:
    """Looks in memory first and on disk next; what is found there comes to memory.

    With ``on_disk=False``, methods use memory alone, for keys that other processes must
    not share.

    Parameters
    ----------
    memory : MemoryStore
    disk : DiskStore, default=None
    """

    def __init__(self, memory, disk=None):
        self.memory = memory
        self.disk = disk

    @property
    def budget(self):
        """Bytes that the larger of the two may take (int)."""
        config = get_config()
        if self.disk is None:
            return config["memory_budget"]
        return max(config["memory_budget"], config["disk_budget"])

    def contains(self, keys, *, on_disk=True):
        """Return the keys that are here (set of bytes)."""
        here = self.memory.contains(keys)
        if self.disk is not None and on_disk and len(here) < len(keys):
            here |= self.disk.contains([key for key in keys if key not in here])
        return here

    def get(self, keys, *, on_disk=True, fits=None):
        """Return the rows that are here (dict of bytes to row).

        Rows that do not have the shape and dtype that they must have, as the callable
        `fits` says, come from a damaged or foreign file: they are deleted, and missing.
        """
        found = _fitting(self.memory, keys, fits)
        if self.disk is not None and on_disk and len(found) < len(keys):
            missing = [key for key in keys if key not in found]
            read = _fitting(self.disk, missing, fits)
            self.memory.put(read)
            found |= read
        return found

    def put(self, rows, *, on_disk=True):
        """Keep rows (dict of bytes to row). They must not be written to."""
        self.memory.put(rows)
        if self.disk is not None and on_disk:
            self.disk.put(rows)


def _fitting(store, keys, fits):
    found = store.get(keys)
    if fits is None:
        return found
    strangers = {key for key, row in found.items() if not fits(row)}
    store.delete(strangers)
    return {key: row for key, row in found.items() if key not in strangers}


def open_store(memory=None):
    """Return the store that an estimator's `memory` asks for.

    Parameters
    ----------
    memory : str, os.PathLike, joblib.Memory or None, default=None
        None keeps activations in this process alone; a folder, or a `joblib.Memory`
        with one, on disk as well.

    Returns
    -------
    Store

    Raises
    ------
    TypeError
        If it is something else.
    """
    folder = getattr(memory, "location", memory)  # None: of joblib.Memory(None), too
    if folder is None:
        return Store(process_store())
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(
            f"`memory` must be a folder, a joblib.Memory or None. Got {memory!r}."
        )
    return Store(process_store(), open_disk_store(folder))
