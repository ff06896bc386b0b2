"""What stored activations are known by, beside the sample."""

from dataclasses import dataclass

import numpy as np

__all__ = ["Space"]


@dataclass(frozen=True)
class Space:
    """The rows of one target, of any sample.

    Attributes
    ----------
    key : bytes
        Of all that a row depends on beside the sample.
    shape : tuple of int
        Of one row.
    is_input : bool
        Whether rows are model inputs, which are kept as they are.
    """

    key: bytes
    shape: tuple
    is_input: bool

    def get(self, store, digests):
        """Return the rows of some samples that are stored (dict of bytes to ndarray).

        Parameters
        ----------
        store : Store
        digests : iterable of bytes
            Of samples; they are the keys of what is returned.
        """
        found = store.get([self.key + digest for digest in digests])
        n = len(self.key)
        return {key[n:]: row for key, row in found.items() if self._is_row(row)}

    def contains(self, store, digests):
        """Return the digests of the samples that are stored (set of bytes)."""
        n = len(self.key)
        return {key[n:] for key in store.contains([self.key + d for d in digests])}

    def with_keys(self, digests, rows):
        """Give rows the keys that they are stored by (dict of bytes to ndarray)."""
        return {self.key + d: row for d, row in zip(digests, rows, strict=True)}

    def _is_row(self, row):
        """Whether a row may be what was stored: files can be damaged, or made up."""
        kinds = (np.uint8, np.float32) if self.is_input else (np.float16, np.float32)
        return row.shape == self.shape and row.dtype in kinds
