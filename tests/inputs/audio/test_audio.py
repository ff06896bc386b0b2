from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow
import pytest

from sktransfer.backbones import load_backbone
from sktransfer.inputs import UnreadableSampleError, as_samples
from sktransfer.inputs.audio._audio import Audio
from tests._recordings import RATE, make_tone, write_wav

PREPROCESSING = load_backbone("speech_embedding").preprocessing


@pytest.fixture
def paths(tmp_path):
    return [write_wav(tmp_path / f"{i}.wav", make_tone(0.1, seed=i)) for i in range(3)]


def test_containers_of_paths(paths):
    expected = [as_samples(paths, PREPROCESSING).digest(i) for i in range(3)]
    forms = [
        tuple(paths),
        np.array(paths),
        np.array(paths, dtype=object)[:, None],
        pd.Series(paths, index=[5, 6, 7]),
        pd.DataFrame({"path": paths}),
        pyarrow.array(paths),
        [{"bytes": None, "path": path} for path in paths],
        [{"bytes": Path(path).read_bytes(), "path": None} for path in paths],
    ]
    for X in forms:
        samples = as_samples(X, PREPROCESSING)
        assert [samples.digest(i) for i in range(3)] == expected
        assert as_samples(samples, PREPROCESSING) is samples


def test_errors_say_what_x_may_be(paths):
    for X in ({"a": 1}, {*paths}, frozenset(paths)):
        with pytest.raises(
            TypeError, match=f"Got a {type(X).__name__}, which has none"
        ):
            as_samples(X, PREPROCESSING)
    for X in (paths[0], b"RIFF", 3):
        with pytest.raises(
            TypeError, match=r"for a single recording, pass \[recording"
        ):
            as_samples(X, PREPROCESSING)
    with pytest.raises(ValueError, match="X must have at least 1 sample. Got 0."):
        as_samples([], PREPROCESSING)
    table = pd.DataFrame({"path": paths, "size": 1})
    with pytest.raises(ValueError, match="Got 2 columns; select the column that holds"):
        as_samples(table, PREPROCESSING)
    waves = np.zeros((2, 100), np.float32)
    with pytest.raises(UnreadableSampleError, match="does not say its sampling rate"):
        as_samples(waves, PREPROCESSING)


def test_files_that_are_no_recording_are_named_at_once_or_left_for_later(paths):
    broken = [*paths, __file__]
    with pytest.raises(UnreadableSampleError, match="Samples must be readable record"):
        as_samples(broken, PREPROCESSING)
    samples = as_samples(broken, PREPROCESSING, on_error="warn")
    with pytest.raises(UnreadableSampleError, match="Got sample 3 .*test_audio.py"):
        samples[3]


def test_recordings_that_are_too_long_are_told_once():
    X = [(make_tone(seconds), RATE) for seconds in (1, 3, 4)]
    message = (
        "2 of 3 recordings are longer than 2 seconds, which is `max_seconds`, and only "
        "their beginnings are used: 3 seconds of them are lost, the longest has 4."
    )
    with pytest.warns(UserWarning, match=message):
        as_samples(X, replace(PREPROCESSING, max_seconds=2))
    as_samples(X, PREPROCESSING)  # warnings are errors


def test_samples_are_read_as_far_as_each_preprocessing_needs(tmp_path):
    path = write_wav(tmp_path / "a.wav", make_tone(3.0))
    short, long = (replace(PREPROCESSING, max_seconds=n) for n in (1, 9))
    with pytest.warns(UserWarning, match="longer than 1 seconds"):
        samples = as_samples([path], short)
    assert samples[0].seconds == 1
    assert as_samples(samples, long)[0].seconds == 3


def test_what_recordings_cannot_do():
    modality = Audio()
    assert not modality.looks_like(["a.wav"])
    message = "`augment` must be None for a backbone that takes recordings. Got 'light'"
    with pytest.raises(ValueError, match=message):
        modality.augmentation("light", PREPROCESSING)
    with pytest.raises(ValueError, match="Models of recordings cannot be exported"):
        modality.raw_input(PREPROCESSING)


def test_networks_of_transformers_that_take_sound():
    modality = Audio()
    network = SimpleNamespace(config=None, main_input_name="input_values")
    assert modality.takes_network(network)
    network.main_input_name = "input_ids"
    assert not modality.takes_network(network)
    with pytest.raises(ValueError, match="SimpleNamespace does not say which sampling"):
        modality.default_preprocessing(network, None)
