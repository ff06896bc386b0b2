"""Samples of audio: recordings that are read when they are indexed."""

import io
import os
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from sktransfer.inputs._changes import tell_change
from sktransfer.inputs._modality import UnreadableSampleError
from sktransfer.inputs._reading import to_numpy
from sktransfer.inputs.audio._waveforms import (
    NOUN,
    Waveform,
    decode,
    digest_of_array,
    digest_of_bytes,
    duration,
    file_digest,
    file_duration,
    from_array,
    read_file,
)

_NO_RATE = (
    "an array does not say its sampling rate; pass pairs of an array and a rate in Hz, "
    "as in `[(waveform, 16000) for waveform in X]`"
)


class AudioSamples:
    """Samples of audio, each read when it is indexed.

    `items` are paths (str), encoded recordings (bytes) or pairs of an array and its
    sampling rate, as `as_item` returns them. Of files and encoded recordings, no more
    than their first `max_seconds` are decoded. `rows` are the positions in X; by
    default in order. Recordings have no labels.

    ``digests`` holds the hashes of the samples once they are known. `take` selects from
    it, and `iter_batches` warns if a sample has another one when it is read.
    """

    labels = None

    def __init__(self, items, max_seconds, rows=None, digests=None, warned_of=None):
        self._items = items
        self._max_seconds = max_seconds
        self._rows = np.arange(len(items)) if rows is None else rows
        self._warned_of = [] if warned_of is None else warned_of  # shared by all parts
        self.digests = digests

    def __len__(self):
        """Return the number of samples."""
        return len(self._rows)

    def __getitem__(self, i):
        """Return recording `i` as a `Waveform`; raise an error if it is none."""
        return self.read(i)[1]

    def read(self, i: int) -> tuple[bytes, Waveform]:
        """Read recording `i` once; return its digest and its waveform."""
        return self._explained(i, lambda item: _read(item, self._max_seconds))

    def digest(self, i: int) -> bytes:
        """Return a hash of the content of recording `i`.

        It is that of the bytes of a file, which is read again only if it has changed,
        and of the values and the sampling rate of an array.
        """
        return self._explained(i, _digest)

    def seconds(self, i: int) -> float:
        """Return the duration of recording `i`, by the header of a file."""
        return self._explained(i, _seconds)

    def can_change(self, i: int) -> bool:
        """Return whether another reading may differ, as that of a file may."""
        return isinstance(self._items[self._rows[i]], str)

    def warn_of_change(self, i: int) -> None:
        """Warn, once for all parts of X, that a file is not as it was before."""
        if self._warned_of:
            return
        self._warned_of.append(i)
        tell_change(self.describe(i))

    def take(self, indices: Any) -> Self:
        """Return some of the recordings, by their indices or a mask."""
        indices = np.arange(len(self))[indices]
        digests = self.digests and [self.digests[i] for i in indices]
        return self._with(self._max_seconds, self._rows[indices], digests)

    def up_to(self, max_seconds: float) -> Self:
        """Return the same recordings, of which another beginning is decoded."""
        if max_seconds == self._max_seconds:
            return self
        return self._with(max_seconds, self._rows, self.digests)

    def _with(self, max_seconds, rows, digests):
        return type(self)(self._items, max_seconds, rows, digests, self._warned_of)

    def describe(self, i: int) -> str:
        """Return the words for recording `i` in messages, as "sample 3 ('a.wav')"."""
        name = self.name(i)
        return f"sample {self._rows[i]}" + (f" ({name!r})" if name else "")

    def name(self, i: int) -> str | None:
        """Return the path of recording `i`; None if it is in memory."""
        item = self._items[self._rows[i]]
        return item if isinstance(item, str) else None

    def _explained(self, i, function):
        """Return what a function makes of item `i`, or raise an error with its row."""
        row = self._rows[i]
        try:
            return function(self._items[row])
        except (OSError, ValueError, TypeError) as error:
            reason = _why_no_file(self._items[row]) or str(error)
            name = self.name(i)
            raise UnreadableSampleError(int(row), name, reason, NOUN) from error


def _read(item, max_seconds):
    """Return the digest and the waveform of an item."""
    if isinstance(item, str):
        return read_file(item, max_seconds)
    if isinstance(item, bytes):
        return digest_of_bytes(item), decode(io.BytesIO(item), max_seconds)
    return digest_of_array(*_pair(item)), from_array(*_pair(item))


def _digest(item):
    if isinstance(item, str):
        return file_digest(item)
    if isinstance(item, bytes):
        return digest_of_bytes(item)
    return digest_of_array(*_pair(item))


def _seconds(item):
    if isinstance(item, str):
        return file_duration(item)
    if isinstance(item, bytes):
        return duration(io.BytesIO(item))
    return from_array(*_pair(item)).seconds


def _pair(item):
    """Return an array and its rate; raise a TypeError that says what an item lacks."""
    if isinstance(item, tuple) and isinstance(item[0], np.ndarray):
        return item
    if isinstance(item, np.ndarray):
        raise TypeError(_NO_RATE)
    if item is None or isinstance(item, float) or type(item).__name__ == "NAType":
        raise TypeError(f"it is missing ({item!r})")
    raise TypeError(
        f"it is of type {type(item).__name__}, and no path, encoded recording or pair "
        "of an array and its sampling rate"
    )


def _why_no_file(item):
    if not isinstance(item, str) or os.path.isfile(item):
        return None
    if os.path.isdir(item):
        return "it is a directory; pass the files in it"
    return f"the file does not exist; relative paths start at {os.getcwd()!r}"


def as_item(item: Any) -> Any:
    """Return a sample as a path, bytes or a pair (array, rate), or as it is.

    Pairs may have the rate in front, as `scipy.io.wavfile.read` returns them, and may
    be dicts with an "array" and a "sampling_rate", as in the library datasets, which
    stores recordings as dicts of their "bytes" and their "path".
    """
    if isinstance(item, Mapping) and item.keys() == {"bytes", "path"}:
        item = item["path"] if item["bytes"] is None else item["bytes"]
    if isinstance(item, Mapping) and {"array", "sampling_rate"} <= {*item}:
        item = item["array"], item["sampling_rate"]
    if isinstance(item, tuple | list) and len(item) == 2:
        values, rate = item
        if np.ndim(values) == 0 and np.ndim(rate) > 0:
            values, rate = rate, values
        if np.ndim(values) > 0 and np.ndim(rate) == 0:
            return to_numpy(values), rate
    if isinstance(item, str | os.PathLike):
        return str(os.fspath(item))
    if isinstance(item, bytearray | memoryview):
        return bytes(item)
    is_array = hasattr(item, "__array__") or isinstance(item, list)
    return to_numpy(item) if is_array and not np.isscalar(item) else item
