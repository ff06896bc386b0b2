"""Front ends of networks: from a waveform to the arrays that a network takes."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import scipy.fft

_LOWEST_POWER = 1e-10
_LINEAR_UP_TO = 1000.0  # Hz, of the mel scale
_HZ_PER_MEL = 200 / 3
_STEP_OF_LOGARITHM = np.log(6.4) / 27


class FrontEnd(Protocol):
    """Protocol of the step from a waveform to a prepared sample.

    Front ends are frozen dataclasses, whose parameters and version identify what they
    compute.

    Attributes
    ----------
    shape_hint : str
        What the network must take.
    """

    shape_hint: str

    def key(self) -> str:
        """Return a stable text of everything that affects the output."""

    def prepare(self, values: np.ndarray, rate: int) -> dict[str, np.ndarray]:
        """Return what the network takes of a waveform (t,), as a dict of arrays."""


@dataclass(frozen=True)
class LogMel:
    """Power in bands of the mel scale, in bels plus 2.

    A recording becomes at least `n_frames` frames, and a number of `step` more of them.
    A shorter one is put in the middle, between silence.

    Parameters
    ----------
    n_mels : int
        Number of bands.
    low, high : float
        Limits of the bands in Hz.
    window, hop, n_fft : int
        Numbers of values of a window, from one to the next, and of its transform.
    n_frames, step : int
        Smallest number of frames, and the step to larger ones.
    full_scale : float, default=1.0
        What values of 1 are multiplied by.
    range_db : float, default=80.0
        Range in decibels below the loudest value, beyond which values are clipped.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.inputs import LogMel
    >>> front_end = LogMel(
    ...     n_mels=32, low=60, high=3800, window=400, hop=160, n_fft=512, n_frames=76,
    ...     step=8,
    ... )
    >>> tone = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)  # one second
    >>> spectrum = front_end.prepare(tone.astype("float32"), rate=16_000)["hidden"]
    >>> spectrum.shape, int(spectrum.mean(axis=0).argmax())  # the loudest band
    ((100, 32), 5)
    """

    n_mels: int
    low: float
    high: float
    window: int
    hop: int
    n_fft: int
    n_frames: int
    step: int
    full_scale: float = 1.0
    range_db: float = 80.0

    shape_hint = "It must take log-mel spectra (frames, bands) and their mask."

    def key(self) -> str:
        """Return a stable text of everything that affects the output."""
        return f"logmel-v1;{self!r}"

    def prepare(self, values: np.ndarray, rate: int) -> dict[str, np.ndarray]:
        """Return the spectrum of a waveform (t,), and the mask of its frames.

        ``"hidden"`` is of shape (frames, bands), in float32, and ``"mask"`` of shape
        (frames,), in which all are valid.
        """
        values = centred(values, self._n_values(len(values)))
        frames = np.lib.stride_tricks.sliding_window_view(values, self.n_fft)
        window = self.full_scale * padded_window(self.window, self.n_fft)
        weighted = frames[:: self.hop] * window.astype(np.float32)
        power = np.abs(scipy.fft.rfft(weighted)) ** 2
        bands = power @ mel_bands(self.n_mels, self.low, self.high, self.n_fft, rate)
        decibels = 10 * np.log10(np.maximum(bands, _LOWEST_POWER))
        clipped = np.maximum(decibels, decibels.max() - self.range_db)
        spectrum = (clipped / 10 + 2).astype(np.float32)
        return {"hidden": spectrum, "mask": np.ones(len(spectrum), bool)}

    def _n_values(self, n):
        """Return the number of values of a valid number of frames, for n values.

        It is the least one that holds all whole frames; a last frame that a recording
        fills in part is left out.
        """
        n_more = max(0, (n - self.n_fft) // self.hop + 1 - self.n_frames)
        n_frames = self.n_frames + -(-n_more // self.step) * self.step
        return self.n_fft + self.hop * (n_frames - 1)


def centred(values: np.ndarray, length: int) -> np.ndarray:
    """Return values in the middle of zeros, or their middle if there are more."""
    missing = length - len(values)
    if missing < 0:
        return values[-missing // 2 :][:length]
    return np.pad(values, (missing // 2, missing - missing // 2))


@lru_cache(maxsize=16)
def padded_window(length: int, n_fft: int) -> np.ndarray:
    """Return a Hann window in the middle of zeros (n_fft,), in float32."""
    angles = 2 * np.pi * np.arange(length) / length
    return centred(0.5 - 0.5 * np.cos(angles), n_fft).astype(np.float32)


@lru_cache(maxsize=16)
def mel_bands(
    n_mels: int, low: float, high: float, n_fft: int, rate: int
) -> np.ndarray:
    """Return triangles of equal area on the mel scale (n_fft // 2 + 1, n_mels).

    They are those of Slaney's Auditory Toolbox, which librosa has by default.
    """
    edges = _to_hz(np.linspace(_to_mel(low), _to_mel(high), n_mels + 2))
    below, centre, above = edges[:-2], edges[1:-1], edges[2:]
    hz = np.linspace(0, rate / 2, n_fft // 2 + 1)[:, None]
    rising, falling = (hz - below) / (centre - below), (above - hz) / (above - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * 2 / (above - below)).astype(np.float32)


def _to_mel(hz):
    knee = _LINEAR_UP_TO / _HZ_PER_MEL
    if hz < _LINEAR_UP_TO:
        return hz / _HZ_PER_MEL
    return knee + np.log(hz / _LINEAR_UP_TO) / _STEP_OF_LOGARITHM


def _to_hz(mels):
    beyond = mels - _LINEAR_UP_TO / _HZ_PER_MEL
    curved = _LINEAR_UP_TO * np.exp(_STEP_OF_LOGARITHM * np.maximum(beyond, 0))
    return np.where(beyond < 0, mels * _HZ_PER_MEL, curved)


@dataclass(frozen=True)
class MelWindows:
    """Power in bands of the mel scale, in overlapping windows, as Resemblyzer takes it.

    Quiet recordings are amplified. The end of the last window may be silence, which it
    is if at least three quarters of it lie in the recording, or if it is the only one.

    Parameters
    ----------
    n_mels : int
        Number of bands between 0 Hz and half the sampling rate.
    frame, hop : int, default=400 and 160
        Numbers of values of a frame, and from one to the next.
    n_frames, step : int, default=160 and 77
        Numbers of frames of a window, and from one to the next.
    least_db : float, default=-30.0
        Root mean square of a recording in decibels of full scale, at least.
    """

    n_mels: int
    frame: int = 400
    hop: int = 160
    n_frames: int = 160
    step: int = 77
    least_db: float = -30.0

    shape_hint = "It must take windows of mel spectra (windows, frames * bands)."

    def key(self) -> str:
        """Return a stable text of everything that affects the output."""
        return f"melwindows-v1;{self!r}"

    def prepare(self, values: np.ndarray, rate: int) -> dict[str, np.ndarray]:
        """Return the windows of the spectrum of a waveform (t,), and their mask.

        ``"hidden"`` is of shape (windows, frames * bands), in float32, and ``"mask"``
        of shape (windows,), in which all are valid.
        """
        starts = self._starts(len(values))
        n_frames = starts[-1] + self.n_frames
        padded = np.zeros(max(n_frames * self.hop, len(values)), np.float32)
        padded[: len(values)] = self._amplified(values)
        padded = np.pad(padded, self.frame // 2)  # frames are centred
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.frame)
        weighted = frames[:: self.hop] * padded_window(self.frame, self.frame)
        power = np.abs(scipy.fft.rfft(weighted)) ** 2
        bands = power @ mel_bands(self.n_mels, 0.0, rate / 2, self.frame, rate)
        windows = [bands[i : i + self.n_frames].ravel() for i in starts]
        hidden = np.stack(windows).astype(np.float32)
        return {"hidden": hidden, "mask": np.ones(len(starts), bool)}

    def _starts(self, n):
        """Return the first frames of the windows of a waveform of n values."""
        n_frames = n // self.hop + 1
        end = max(1, n_frames - self.n_frames + self.step + 1)
        starts = [*range(0, end, self.step)]
        covered = n / self.hop - starts[-1]
        is_enough = covered >= 0.75 * self.n_frames
        return starts if is_enough or len(starts) == 1 else starts[:-1]

    def _amplified(self, values):
        level = (
            np.sqrt(np.mean(np.square(values), dtype=np.float64)) if len(values) else 0
        )
        least = 10 ** (self.least_db / 20)
        return values * np.float32(least / level) if 0 < level < least else values
