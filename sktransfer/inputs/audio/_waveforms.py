"""Waveforms of recordings: files, encoded bytes, and arrays with a sampling rate."""

import hashlib
import io
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from sktransfer.utils import DIGEST_SIZE, FileCache, digest, import_optional

NOUN = "recordings"
_FULL_SCALE = {"i1": 2**7, "i2": 2**15, "i4": 2**31, "u1": 2**7}  # by kind and bytes
_LOUDEST = 16.0  # of floats, whose full scale is 1; more are integers in disguise
_MOST_CHANNELS = 32
_SHOWN = 16  # bytes of a file that holds no recording
# What libsndfile says of a chunk that is longer in the header than in the file.
_CHUNK = re.compile(r"(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)")
_STREAMED = 0x7FFFF000  # bytes; lengths from here on were not known when writing
_MISSING = 0.01  # share of a recording, below which headers are inexact


class Waveform(NamedTuple):
    """A recording with one channel.

    Attributes
    ----------
    values : ndarray of shape (t,)
        Sound pressure in float32, of which 1 is full scale.
    rate : int
        Sampling rate in Hz.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.inputs import Waveform
    >>> Waveform(np.zeros(8000, np.float32), 16000).seconds
    0.5
    """

    values: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.values) / self.rate


def n_values_in(seconds: float, rate: int) -> int:
    """Return the number of values of the beginning of a recording, at least one."""
    return max(1, round(seconds * rate))


def decode(file: BinaryIO, max_seconds: float) -> Waveform:
    """Return the waveform of an encoded recording; raise a ValueError if it has none.

    Integers of 8, 16, 24 and 32 bits are scaled to full scale, and channels averaged.
    What follows `max_seconds` is not decoded.
    """
    library = _soundfile()
    try:
        with library.SoundFile(file) as recording:
            rate = recording.samplerate
            n_kept = n_values_in(max_seconds, rate)
            # In one piece: between two, an MP3 would be decoded a little differently.
            values = recording.read(n_kept, dtype="float32", always_2d=True)
            n_stated, about = recording.frames, recording.extra_info
    except library.LibsndfileError as error:
        file.seek(0)
        raise ValueError(_why_unknown(file.read(_SHOWN), error)) from error
    if len(values) < n_kept:
        _check_whole(len(values), n_stated, about)
    return _checked(values.mean(axis=1), rate)  # of (t, channels)


def _check_whole(n_read, n_stated, about):
    """Raise a ValueError if a recording is shorter than its header says."""
    lengths = [(n_stated, n_read)]
    lengths += [(int(a), int(b)) for a, b in _CHUNK.findall(about)]
    for stated, found in lengths:
        if stated < _STREAMED and found < (1 - _MISSING) * stated:
            raise ValueError(
                f"it is truncated: it has {found / stated:.0%} of the length that its "
                "header states"
            )


def read_file(path: str, max_seconds: float) -> tuple[bytes, Waveform]:
    """Return the hash of a file, and the beginning of its waveform.

    If the file is written meanwhile, the hash is one that no file has.
    """
    found = file_digest(path)
    with open(path, "rb") as file:
        waveform = decode(file, max_seconds)
    is_same = file_digest(path) == found
    return found if is_same else digest(found, "written while it was read"), waveform


def duration(file: BinaryIO) -> float:
    """Return the seconds of an encoded recording by its header."""
    library = _soundfile()
    try:
        about = library.info(file)
    except library.LibsndfileError as error:
        file.seek(0)
        raise ValueError(_why_unknown(file.read(_SHOWN), error)) from error
    return about.frames / about.samplerate


def _soundfile():
    return import_optional("soundfile", feature="A backbone of audio", extra="audio")


def _why_unknown(data, error):
    if not data:
        return "it is empty, of 0 bytes"
    return (
        f"it is no recording that libsndfile knows how to read ({error.error_string}); "
        f"it begins with {data[:_SHOWN]!r}"
    )


def from_array(values: np.ndarray, rate: Any) -> Waveform:
    """Return the waveform of an array; raise a ValueError if it cannot be one.

    Parameters
    ----------
    values : ndarray of shape (t,), (t, channels) or (channels, t)
        Floats of which 1 is full scale, or integers of 8, 16 or 32 bits.
    rate : int or float
        Sampling rate in Hz.
    """
    if not (_is_number(rate) and 1 <= rate < 1e9 and rate == int(rate)):
        raise ValueError(f"its sampling rate is {rate!r}, and must be a number of Hz")
    if values.ndim == 2:
        values = _mono(values)
    elif values.ndim != 1:
        raise ValueError(
            f"it has the shape {values.shape}, and must be one waveform (t,), or one "
            "per channel, (t, channels) or (channels, t)"
        )
    return _checked(_in_full_scale(values), int(rate))


def _is_number(value):
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _mono(values):
    """Return the average of the channels, which are the shorter axis."""
    axis = 0 if values.shape[0] < values.shape[1] else 1
    if values.shape[axis] > _MOST_CHANNELS:
        raise ValueError(
            f"it has the shape {values.shape}, and so {values.shape[axis]} channels; "
            "pass each recording with its sampling rate, as in "
            "`[(waveform, 16000) for waveform in X]`"
        )
    return _in_full_scale(values).mean(axis=axis)


def _in_full_scale(values):
    """Return values as float32, of which 1 is full scale."""
    if values.dtype.kind == "f":
        loudest = float(np.abs(values).max(initial=0))
        if loudest > _LOUDEST:  # NaN is found later
            raise ValueError(
                f"its values go up to {loudest:.6g}, and full scale of floats is 1; "
                "divide those of 16 bits by 32768"
            )
        return values.astype(np.float32)
    scale = _FULL_SCALE.get(f"{values.dtype.kind}{values.dtype.itemsize}")
    if scale is None:
        raise ValueError(
            f"its values are of dtype {values.dtype}, and must be floats, of which 1 "
            "is full scale, or integers of 8, 16 or 32 bits"
        )
    offset = scale if values.dtype.kind == "u" else 0
    return ((values.astype(np.float64) - offset) / scale).astype(np.float32)


def _checked(values, rate):
    if not len(values):
        raise ValueError("it is empty, of 0 samples")
    if not np.isfinite(values).all():
        raise ValueError("it holds NaN or infinity")
    return Waveform(np.ascontiguousarray(values), rate)


def resample(waveform: Waveform, rate: int) -> np.ndarray:
    """Return the values of a waveform at another sampling rate (t,), in float32."""
    if waveform.rate == rate:
        return waveform.values
    library = import_optional("soxr", feature="A backbone of audio", extra="audio")
    return library.resample(waveform.values, waveform.rate, rate, quality="HQ")


def digest_of_bytes(data: bytes) -> bytes:
    """Return the hash of an encoded recording."""
    return _digest_of_file(io.BytesIO(data))


def _digest_of_file(file):
    return hashlib.file_digest(file, _blake2b).digest()


def _blake2b():
    return hashlib.blake2b(digest_size=DIGEST_SIZE)


def digest_of_array(values: np.ndarray, rate: Any) -> bytes:
    """Return the hash of an array and its sampling rate."""
    about = f"{values.dtype.newbyteorder('=').str} {values.shape} {float(rate)}"
    native = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    return digest(about, native.tobytes())


file_digest = FileCache(_digest_of_file)  # the file is read in blocks
file_duration = FileCache(duration)


def installed_version(name: str) -> str | None:
    """Return the version of a library that shapes values; None if it is absent."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
