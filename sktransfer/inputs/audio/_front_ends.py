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
        """Return the least number of values, not below n, of a valid number of frames.

        A last frame that a recording fills in part is left out of it.
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
