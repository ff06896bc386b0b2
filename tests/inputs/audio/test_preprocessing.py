from dataclasses import replace

import numpy as np
import pytest

from sktransfer.backbones import load_backbone
from sktransfer.inputs import Waveform
from sktransfer.inputs._custom import preprocessing_key
from tests._recordings import make_tone

PREPROCESSING = load_backbone("speech_embedding").preprocessing


def test_any_rate_gives_nearly_the_same_input():
    fast = Waveform(make_tone(1.0, rate=44_100), 44_100)
    slow = Waveform(make_tone(1.0), 16_000)
    found, expected = (PREPROCESSING.prepare(w)["hidden"] for w in (fast, slow))
    assert found.shape == expected.shape == (100, 32)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
@pytest.mark.parametrize("n_values", [1, 2, 100])
def test_very_short_recordings(rate, n_values):
    waveform = Waveform(np.ones(n_values, np.float32), rate)
    found = PREPROCESSING.prepare(waveform)["hidden"]
    assert found.shape == (76, 32)
    assert np.isfinite(found).all()


def test_only_the_beginning_of_long_recordings_is_used():
    tone = make_tone(3.0)
    cut = replace(PREPROCESSING, max_seconds=2)
    found = cut.prepare(Waveform(tone, 16_000))
    expected = PREPROCESSING.prepare(Waveform(tone[:32_000], 16_000))
    np.testing.assert_array_equal(found["hidden"], expected["hidden"])
    assert preprocessing_key(cut) != preprocessing_key(PREPROCESSING)
    assert preprocessing_key(PREPROCESSING)[1]  # holds in other processes, too


def test_example_and_its_shape():
    example = PREPROCESSING.example(3)
    for name, shape in PREPROCESSING.input_shape.items():
        assert example[name].shape == (3, *shape)
        assert example[name].equal(PREPROCESSING.example(3)[name])
    assert not example["hidden"][0].equal(example["hidden"][1])
    assert PREPROCESSING.to_input(example) is example
    assert "log-mel spectra" in PREPROCESSING.shape_hint


def test_parameters_that_do_not_fit():
    with pytest.raises(ValueError, match="`max_seconds` must be positive. Got 0."):
        replace(PREPROCESSING, max_seconds=0)
    assert PREPROCESSING.with_size(None) is PREPROCESSING
    message = "`image_size` must be None for a backbone that takes recordings. Got 64"
    with pytest.raises(ValueError, match=message):
        PREPROCESSING.with_size(64)
