"""Activations in the memory of this process, up to a budget."""

import threading
from collections import OrderedDict

from sktransfer.compute import in_forked_child
from sktransfer.utils import get_config

__all__ = ["MemoryStore", "process_store"]


class MemoryStore:
    """A dict of arrays that forgets those used longest ago.

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
        self.nbytes = sum(row.nbytes for row in self._rows.values())

    def __len__(self):
        return len(self._rows)

    def contains(self, keys):
        """Return the keys that are here (set of bytes)."""
        with self._lock:
            return {key for key in keys if key in self._rows}

    def get(self, keys):
        """Return the arrays that are here (dict of bytes to ndarray)."""
        found = {}
        with self._lock:
            for key in keys:
                row = self._rows.get(key)
                if row is not None:
                    self._rows.move_to_end(key)
                    found[key] = row
        return found

    def put(self, rows):
        """Keep arrays (dict of bytes to ndarray). They must not be written to."""
        budget = get_config()["memory_budget"]
        with self._lock:
            for key, row in rows.items():
                if row.nbytes > budget:
                    continue
                old = self._rows.pop(key, None)
                self.nbytes += row.nbytes - (0 if old is None else old.nbytes)
                self._rows[key] = row
            while self.nbytes > budget:
                _, forgotten = self._rows.popitem(last=False)
                self.nbytes -= forgotten.nbytes

    def delete(self, keys):
        """Forget some keys."""
        with self._lock:
            for key in keys:
                row = self._rows.pop(key, None)
                self.nbytes -= 0 if row is None else row.nbytes

    def clear(self):
        """Forget everything."""
        with self._lock:
            self._rows.clear()
            self.nbytes = 0


_process_store = MemoryStore()
in_forked_child(_process_store.renew)


def process_store():
    """Return the store that all estimators of this process share."""
    return _process_store
