"""Front ends of the networks of the library transformers."""

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sktransfer.inputs.audio._front_ends import centred
from sktransfer.inputs.audio._waveforms import installed_version
from sktransfer.inputs.texts._preprocessing import padded_length
from sktransfer.utils import import_optional

_LEAST_VARIANCE = 1e-7


@dataclass(frozen=True)
class PlainWaveform:
    """The waveform itself, padded to a length that depends on that of the sample alone.

    Parameters
    ----------
    window, hop : int
        Numbers of values that a position of the network depends on, and from one
        position to the next.
    is_standardized : bool
        Whether values get a mean of 0 and a variance of 1.
    """

    window: int
    hop: int
    is_standardized: bool

    shape_hint = "It must take waveforms and their mask."

    def key(self) -> str:
        """Return a stable text of everything that affects the output."""
        return f"waveform-v1;{self!r}"

    def prepare(self, values: np.ndarray, rate: int) -> dict[str, np.ndarray]:
        """Return the padded waveform (t,), and the mask of its values.

        A recording that is shorter than one window is put in the middle of it.
        """
        if len(values) < self.window:
            values = centred(values, self.window)
        if self.is_standardized:
            values = (values - values.mean()) / np.sqrt(values.var() + _LEAST_VARIANCE)
        n_positions = (len(values) - self.window) // self.hop + 1
        length = self.window + self.hop * (padded_length(n_positions) - 1)
        padded = np.zeros(length, np.float32)
        padded[: len(values)] = values
        return {"hidden": padded, "mask": np.arange(length) < len(values)}


@dataclass(frozen=True)
class LibrarySpectrum:
    """Spectrum that a feature extractor of transformers makes.

    Parameters
    ----------
    config : str
        The content of its ``preprocessor_config.json``.
    """

    config: str

    shape_hint = "It must take spectra (frames, bands) and their mask."

    def key(self) -> str:
        """Return a stable text of everything that affects the output."""
        # With torchaudio, transformers computes some spectra in another way.
        names = "transformers", "torchaudio"
        libraries = [f"{name}={installed_version(name)}" for name in names]
        return f"spectrum-v1;{self.config};{';'.join(libraries)}"

    def prepare(self, values: np.ndarray, rate: int) -> dict[str, np.ndarray]:
        """Return the spectrum (frames, bands), and the mask of frames with sound."""
        made = _extractor(self.config)(
            values, sampling_rate=rate, return_attention_mask=True, return_tensors="np"
        )
        if "input_features" in made:
            spectrum = made["input_features"][0].T
            mask = made["attention_mask"][0].astype(bool)
        else:
            spectrum = made["input_values"][0]
            mask = np.ones(len(spectrum), bool)
        return {"hidden": np.ascontiguousarray(spectrum, np.float32), "mask": mask}


@lru_cache(maxsize=16)
def _extractor(config):
    """Return the feature extractor of a configuration, made once per process."""
    library = import_optional("transformers", feature="A spectrum", extra="audio")
    options = json.loads(config)
    return getattr(library, options["feature_extractor_type"])(**options)
