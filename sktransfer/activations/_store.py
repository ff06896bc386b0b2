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

    def contains(self, keys, *, on_disk=True):
        """Return the keys that are here.

        Parameters
        ----------
        keys : collection of bytes
        on_disk : bool, default=True
            False looks in memory alone, for keys that other processes must not share.

        Returns
        -------
        set of bytes
        """
        here = self.memory.contains(keys)
        if self.disk is not None and on_disk and len(here) < len(keys):
            here |= self.disk.contains([key for key in keys if key not in here])
        return here

    def get(self, keys, *, on_disk=True, fits=None):
        """Return the arrays that are here.

        Parameters
        ----------
        keys : collection of bytes
        on_disk : bool, default=True
            False looks in memory alone.
        fits : callable, default=None
            Whether an array has the shape and dtype that are due. Others, which a
            damaged or foreign file may hold, are deleted and count as missing.

        Returns
        -------
        dict of bytes to ndarray
        """
        found = _fitting(self.memory, keys, fits)
        if self.disk is not None and on_disk and len(found) < len(keys):
            missing = [key for key in keys if key not in found]
            read = _fitting(self.disk, missing, fits)
            self.memory.put(read)
            found |= read
        return found

    def put(self, rows, *, on_disk=True):
        """Keep arrays.

        Parameters
        ----------
        rows : dict of bytes to ndarray
            They must not be written to.
        on_disk : bool, default=True
            False keeps them in memory alone.
        """
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
