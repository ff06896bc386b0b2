"""Preprocessing of audio: length, sampling rate, and the front end of a network."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from sktransfer.inputs._preprocessing import WithoutImageSize
from sktransfer.inputs.audio._front_ends import FrontEnd
from sktransfer.inputs.audio._waveforms import (
    NOUN,
    Waveform,
    installed_version,
    n_values_in,
    resample,
)


@dataclass(frozen=True)
class AudioPreprocessing(WithoutImageSize):
    """Preprocessing of recordings to the inputs of a network.

    The beginning of a recording, up to `max_seconds`, is resampled to the sampling rate
    of the network, and goes through its front end, such as a spectrum.

    Parameters
    ----------
    sampling_rate : int
        Sampling rate in Hz that the network was trained with.
    front_end : FrontEnd
        From a waveform to what the network takes.
    max_seconds : float, default=30.0
        Longest duration that is used of a recording.

    Raises
    ------
    ValueError
        If `max_seconds` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.backbones import load_backbone
    >>> from sktransfer.inputs import Waveform
    >>> preprocessing = load_backbone("speech_embedding").preprocessing
    >>> second = Waveform(np.zeros(16000, dtype=np.float32), rate=16000)
    >>> preprocessing.prepare(second)["hidden"].shape
    (100, 32)
    """

    sampling_rate: int
    front_end: FrontEnd
    max_seconds: float = 30.0

    kind: ClassVar[str] = "audio"
    noun: ClassVar[str] = NOUN
    prepared_shape: ClassVar[None] = None
    is_costly_to_read: ClassVar[bool] = True

    def __post_init__(self):
        if not self.max_seconds > 0:
            raise ValueError(
                f"`max_seconds` must be positive. Got {self.max_seconds!r}."
            )

    @property
    def shape_hint(self) -> str:
        """What the network must take (str)."""
        return self.front_end.shape_hint

    @property
    def input_shape(self) -> dict[str, tuple]:
        """Shapes of the model input of a recording of half a second."""
        return {name: part.shape for name, part in self._prepared_example(0).items()}

    def key(self) -> str:
        """Return a stable text of everything that affects the output."""
        about = f"audio-v1;{self.sampling_rate};{float(self.max_seconds)}"
        names = "soundfile", "soxr"
        libraries = ";".join(f"{name}={installed_version(name)}" for name in names)
        return f"{about};{self.front_end.key()};{libraries}"

    def example(self, n: int = 2) -> dict[str, torch.Tensor]:
        """Return the model inputs of `n` noises of half a second.

        Parameters
        ----------
        n : int, default=2
            Number of inputs.

        Returns
        -------
        example : dict of str to Tensor of shape (n, ...)
            As the network takes them.
        """
        prepared = [self._prepared_example(i) for i in range(n)]
        stacked = {name: np.stack([p[name] for p in prepared]) for name in prepared[0]}
        return {name: torch.from_numpy(part) for name, part in stacked.items()}

    def _prepared_example(self, seed):
        noise = np.random.default_rng(seed).normal(size=self.sampling_rate // 2)
        louder = np.linspace(0.01, 0.1, len(noise))
        values = (noise * louder).astype(np.float32)
        return self.front_end.prepare(values, self.sampling_rate)

    def prepare(self, waveform: Waveform) -> dict[str, np.ndarray]:
        """Return what the network takes of a recording.

        Parameters
        ----------
        waveform : Waveform
            A recording of one channel.

        Returns
        -------
        prepared : dict of str to ndarray
            As the front end returns it, with the mask of what is no padding.
        """
        n_kept = n_values_in(self.max_seconds, waveform.rate)
        kept = waveform._replace(values=waveform.values[:n_kept])
        values = resample(kept, self.sampling_rate)
        return self.front_end.prepare(values, self.sampling_rate)
