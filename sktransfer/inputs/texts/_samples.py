"""Samples of texts: strings, or pairs of strings."""

from typing import Any, Self

import numpy as np
import pandas as pd

from sktransfer.inputs._modality import UnreadableSampleError
from sktransfer.utils import digest

NOUN = "texts"


class TextSamples:
    """Samples of texts, with the interface of `Samples`.

    `items` are strings, or tuples of two strings. `rows` are their positions in X; by
    default in order. Texts have no labels.
    """

    labels = None

    def __init__(self, items, rows=None, digests=None):
        self._items = items
        self._rows = np.arange(len(items)) if rows is None else rows
        self.digests = digests

    def __len__(self):
        """Return the number of samples."""
        return len(self._rows)

    def __getitem__(self, i):
        """Return text `i`, a str, or a tuple of two; raise an error if it is none."""
        row = self._rows[i]
        item = self._items[row]
        reason = why_unreadable(item)
        if reason is not None:
            raise UnreadableSampleError(int(row), None, reason, NOUN)
        return item

    def read(self, i: int) -> tuple[bytes, Any]:
        """Return the digest of text `i`, and the text."""
        item = self[i]
        parts = [item] if isinstance(item, str) else item
        sizes = ",".join(str(len(part)) for part in parts)
        return digest(f"text {sizes}:{''.join(parts)}"), item

    def digest(self, i: int) -> bytes:
        """Return a hash of the characters of text `i`."""
        return self.read(i)[0]

    def can_change(self, i: int) -> bool:
        """Return whether another reading may differ, which is never so."""
        return False

    def take(self, indices: Any) -> Self:
        """Return some of the texts, by their indices or a mask."""
        indices = np.arange(len(self))[indices]
        digests = self.digests and [self.digests[i] for i in indices]
        return type(self)(self._items, self._rows[indices], digests)

    def describe(self, i: int) -> str:
        """Return the words for text `i` in messages, as "sample 3"."""
        return f"sample {self._rows[i]}"

    def name(self, i: int) -> None:
        """Return None: a text has no path."""
        return


def why_unreadable(item: Any) -> str | None:
    """Say why an item of X is no text; None if it is one."""
    if isinstance(item, tuple) and len(item) != 2:
        return f"it has {len(item)} parts, and a pair of texts has 2"
    parts = item if isinstance(item, tuple) else (item,)
    return next(filter(None, map(_why_no_text, parts)), None)


def _why_no_text(part):
    if isinstance(part, str):
        try:
            part.encode()
        except UnicodeEncodeError:
            return "it holds half of a surrogate pair, which is no character"
        return None
    if isinstance(part, bytes):
        return "it is of type bytes; decode it, as in `text.decode()`"
    if pd.api.types.is_scalar(part) and pd.isna(part):
        return f"it is missing ({part!r}); an empty text is ''"
    return f"it is of type {type(part).__name__}, not str"
