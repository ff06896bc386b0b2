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
    on_disk : bool, default=True
        False where the key is one of this process, as not all that a row depends on
        can be described.
    """

    key: bytes
    shape: tuple
    is_input: bool
    on_disk: bool = True

    def get(self, store, digests):
        """Return the rows of some samples that are stored (dict of bytes to ndarray).

        Parameters
        ----------
        store : Store
        digests : iterable of bytes
            Of samples; they are the keys of what is returned.
        """
        keys, n = [self.key + digest for digest in digests], len(self.key)
        found = store.get(keys, on_disk=self.on_disk, fits=self._is_row)
        return {key[n:]: row for key, row in found.items()}

    def contains(self, store, digests):
        """Return the digests of the samples that are stored (set of bytes)."""
        keys, n = [self.key + digest for digest in digests], len(self.key)
        return {key[n:] for key in store.contains(keys, on_disk=self.on_disk)}

    def with_keys(self, digests, rows):
        """Give rows the keys that they are stored by.

        Parameters
        ----------
        digests : list of (bytes or None)
            None for samples that are not what they were when they were hashed.
        rows : list of ndarray

        Returns
        -------
        dict of bytes to ndarray
            Without those of such samples.
        """
        pairs = zip(digests, rows, strict=True)
        return {self.key + digest: row for digest, row in pairs if digest is not None}

    def _is_row(self, row):
        """Whether a row may be what was stored: files can be damaged, or made up."""
        kinds = (np.uint8, np.float32) if self.is_input else (np.float16, np.float32)
        return row.shape == self.shape and row.dtype in kinds
