"""Memory first, then a folder, as one store."""

import os

from sktransfer.activations._disk_store import open_disk_store
from sktransfer.activations._memory_store import process_store
from sktransfer.utils import get_config

__all__ = ["Store", "open_store"]


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
    if memory is None:
        return Store(process_store())
    folder = getattr(memory, "location", memory)
    if folder is None:  # joblib.Memory(None) keeps nothing on disk
        return Store(process_store())
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(
            f"`memory` must be a folder, a joblib.Memory or None. Got {memory!r}."
        )
    return Store(process_store(), open_disk_store(folder))


class Store:
    """Looks in memory first and on disk next; what is found there comes to memory.

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

    def contains(self, keys):
        """Return the keys that are here (set of bytes)."""
        here = self.memory.contains(keys)
        if self.disk is not None and len(here) < len(keys):
            here |= self.disk.contains([key for key in keys if key not in here])
        return here

    def get(self, keys):
        """Return the arrays that are here (dict of bytes to ndarray)."""
        found = self.memory.get(keys)
        if self.disk is not None and len(found) < len(keys):
            read = self.disk.get([key for key in keys if key not in found])
            self.memory.put(read)
            found |= read
        return found

    def put(self, rows):
        """Keep arrays (dict of bytes to ndarray)."""
        self.memory.put(rows)
        if self.disk is not None:
            self.disk.put(rows)
