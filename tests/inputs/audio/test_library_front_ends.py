import json

import numpy as np
import pytest

from sktransfer.inputs.audio._library_front_ends import LibrarySpectrum, PlainWaveform
from tests._recordings import make_tone

TONE = make_tone(0.2)


def test_waveform_is_standardized_before_it_is_padded():
    found = PlainWaveform(400, 320, is_standardized=True).prepare(3 * TONE, 16_000)
    values = found["hidden"][found["mask"]]
    assert len(values) == len(TONE)
    assert values.mean() == pytest.approx(0, abs=1e-6)
    assert values.std() == pytest.approx(1, abs=1e-4)
    assert (found["hidden"][~found["mask"]] == 0).all()
    plain = PlainWaveform(400, 320, is_standardized=False).prepare(TONE, 16_000)
    np.testing.assert_array_equal(plain["hidden"][plain["mask"]], TONE)


@pytest.mark.parametrize("n_values", [0, 1, 399, 400, 719, 720, 3000])
def test_waveforms_have_few_lengths_with_at_least_one_position_of_padding(n_values):
    front_end = PlainWaveform(400, 320, is_standardized=True)
    found = front_end.prepare(np.ones(n_values, np.float32), 16_000)
    n_positions = (len(found["mask"]) - 400) // 320 + 1
    n_valid = (int(found["mask"].sum()) - 400) // 320 + 1
    assert n_positions % 4 == 0 and 1 <= n_valid < n_positions
    assert np.isfinite(found["hidden"]).all()


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("WhisperFeatureExtractor", {"feature_size": 16, "chunk_length": 1}, (100, 16)),
        ("ASTFeatureExtractor", {"num_mel_bins": 16, "max_length": 64}, (64, 16)),
    ],
)
def test_spectra_are_those_of_transformers(name, options, shape):
    import transformers

    extractor = getattr(transformers, name)(**options)
    front_end = LibrarySpectrum(json.dumps(extractor.to_dict(), sort_keys=True))
    found = front_end.prepare(TONE, 16_000)
    assert found["hidden"].shape == shape and found["mask"].shape == shape[:1]
    made = extractor(TONE, sampling_rate=16_000, return_tensors="np")
    (expected,) = next(iter(made.values()))
    expected = expected if expected.shape == shape else expected.T
    np.testing.assert_allclose(found["hidden"], expected, atol=1e-6)
    assert "transformers=" in front_end.key()
