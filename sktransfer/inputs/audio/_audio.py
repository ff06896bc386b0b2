"""The modality of audio: how X is checked and read."""

import os
from typing import Any

import numpy as np
import pandas as pd

from sktransfer.inputs._modality import MODALITIES, Modality, UnreadableSampleError
from sktransfer.inputs._reading import has_no_order, without_pyarrow
from sktransfer.inputs.audio._preprocessing import AudioPreprocessing
from sktransfer.inputs.audio._samples import NOUN, AudioSamples, as_item
from sktransfer.inputs.audio._waveforms import Waveform
from sktransfer.utils import validate_data, warn_caller

_RATE = 16_000  # of made-up recordings, where a preprocessing has none
_KINDS = (
    "a list, an array, a Series or a data frame of one column of paths or encoded "
    "recordings (bytes), or a list of pairs (array, sampling rate)"
)


class Audio(Modality):
    """The modality of audio.

    X is a list, an array, a Series or a data frame of one column of paths or encoded
    recordings, or a list of pairs of an array and its sampling rate.
    """

    noun = NOUN
    options = ()

    def looks_like(self, X: Any) -> bool:
        """Return False: a list of paths may hold those of images as well."""
        return False

    def takes_network(self, module: Any) -> bool:
        """Return whether a network is one of transformers that takes sound."""
        is_of_library = hasattr(module, "config") and hasattr(module, "main_input_name")
        inputs = ("input_values", "input_features")
        return is_of_library and module.main_input_name in inputs

    def default_preprocessing(self, module: Any, n_features: int | None) -> Any:
        """Raise a ValueError, as a network does not say what it was trained with."""
        raise ValueError(
            f"{type(module).__name__} does not say which sampling rate and spectrum "
            "its weights expect. Save it and its feature extractor into one folder, "
            "`model.save_pretrained(folder)` and "
            "`feature_extractor.save_pretrained(folder)`, and pass the folder as "
            "`backbone`; or pass a `preprocessing` to `load_backbone`."
        )

    def set_tags(self, tags: Any, options: dict) -> None:
        """Say that X consists of strings, such as paths."""
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True

    def validate(self, estimator: Any, X: Any, *, reset: bool) -> Any:
        """Return X, after a check of the columns if it is a table."""
        if isinstance(X, pd.DataFrame):
            return validate_data(estimator, X, reset=reset, skip_check_array=True)
        return X

    def validate_with_y(self, estimator: Any, X: Any, y: Any) -> tuple[Any, Any]:
        """Return X as `validate` does, and y unchanged."""
        return self.validate(estimator, X, reset=True), y

    def read(
        self, X: Any, preprocessing: AudioPreprocessing, *, on_error: str = "raise"
    ) -> AudioSamples:
        """Return X as samples, and warn once of recordings that are too long.

        The headers of all files are read, and the files when they are needed.
        """
        most = preprocessing.max_seconds
        if isinstance(X, AudioSamples):
            return X.up_to(most)
        samples = AudioSamples([as_item(item) for item in _items_of(X)], most)
        durations = []
        for i in range(len(samples)):
            try:
                durations.append(samples.seconds(i))
            except UnreadableSampleError:
                if on_error == "raise":
                    raise
        _warn_of_length(durations, most)
        return samples

    def examples(self, preprocessing: Any, n: int) -> list[Waveform]:
        """Return noise of one second, louder in each recording."""
        rate = getattr(preprocessing, "sampling_rate", _RATE)
        noise = np.random.RandomState(0).uniform(-1, 1, (n, rate))
        louder = np.linspace(0.2, 1, n)[:, None]
        return [Waveform(v, rate) for v in (noise * louder).astype(np.float32)]

    def raw_input(self, preprocessing: Any) -> Any:
        """Raise a ValueError: files and resampling are no part of a network."""
        raise ValueError(
            "Models of recordings cannot be exported as one module, as their files are "
            "not read by tensors."
        )

    def augmentation(self, augment: Any, preprocessing: Any) -> Any:
        """Raise a ValueError: there are no random views of recordings."""
        raise ValueError(
            f"`augment` must be None for a backbone that takes {NOUN}. Got {augment!r};"
            " `augment__activations` is for any backbone."
        )


def _items_of(X):
    """Return the samples of X in a list."""
    X = without_pyarrow(X)
    is_one = isinstance(X, str | bytes | os.PathLike) or not hasattr(X, "__len__")
    if has_no_order(X):
        raise TypeError(
            f"X must be {_KINDS}, whose order is that of y. Got a {type(X).__name__}, "
            "which has none; pass a list or a Series."
        )
    if is_one:
        raise TypeError(
            f"X must be {_KINDS}. Got one {type(X).__name__}; for a single recording, "
            "pass [recording]."
        )
    if getattr(X, "ndim", 1) == 2 and X.shape[1] == 1:
        X = np.asarray(X, dtype=object)[:, 0]
    if isinstance(X, pd.DataFrame):
        raise ValueError(
            f"X must be {_KINDS}. Got {X.shape[1]} columns; select the column that "
            "holds the recordings, as in `X[['path']]`."
        )
    items = [*X]
    if not items:
        raise ValueError("X must have at least 1 sample. Got 0.")
    return items


def _warn_of_length(durations, most):
    """Warn once of recordings that are longer than the preprocessing keeps."""
    over = [seconds - most for seconds in durations if seconds > most]
    if over:
        warn_caller(
            f"{len(over):,} of {len(durations):,} recordings are longer than {most:g} "
            f"seconds, which is `max_seconds`, and only their beginnings are used: "
            f"{sum(over):,.0f} seconds of them are lost, the longest has "
            f"{max(durations):,.0f}. See `max_seconds` in the user guide."
        )


MODALITIES.add_built_in("audio", Audio())
