import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sktransfer.inputs.audio._waveforms import (
    Waveform,
    decode,
    digest_of_array,
    digest_of_bytes,
    duration,
    file_digest,
    file_duration,
    from_array,
    resample,
)
from tests._recordings import RATE, make_tone, write_wav

TONE = make_tone(0.3)


def encoded(values, rate=RATE, **options):
    file = io.BytesIO()
    soundfile.write(file, values, rate, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("n_bytes", "tolerance"), [(1, 2**-7), (2, 2**-15), (3, 2**-23), (4, 2**-24)]
)
def test_integers_of_any_size_are_scaled_to_full_scale(tmp_path, n_bytes, tolerance):
    path = write_wav(tmp_path / "a.wav", TONE, n_bytes=n_bytes)
    found = decode(Path(path).read_bytes())
    assert found.rate == RATE
    assert found.values.dtype == np.float32
    np.testing.assert_allclose(found.values, TONE, atol=tolerance)


@pytest.mark.parametrize("format", ["FLAC", "OGG", "AIFF"])
def test_formats_of_libsndfile(format):
    found = decode(encoded(TONE, format=format))
    assert len(found.values) == len(TONE)
    assert np.corrcoef(found.values, TONE)[0, 1] > 0.99


def test_floats_are_kept_also_beyond_full_scale():
    loud = 4 * TONE
    data = encoded(loud, format="WAV", subtype="FLOAT")
    np.testing.assert_array_equal(decode(data).values, loud)
    np.testing.assert_array_equal(from_array(loud, RATE).values, loud)


def test_channels_are_averaged(tmp_path):
    stereo = np.stack([TONE, np.zeros_like(TONE)], axis=1)
    path = write_wav(tmp_path / "a.wav", stereo)
    from_file = decode(Path(path).read_bytes()).values
    np.testing.assert_allclose(from_file, TONE / 2, atol=2**-15)
    for array in (stereo, stereo.T):
        found = from_array(array, RATE).values
        np.testing.assert_allclose(found, TONE / 2, atol=1e-7)


@pytest.mark.parametrize(
    ("dtype", "scale", "offset"),
    [("i1", 2**7, 0), ("u1", 2**7, 128), (">i2", 2**15, 0), ("i4", 2**31, 0)],
)
def test_integers_in_arrays(dtype, scale, offset):
    whole = np.round(TONE.astype(np.float64) * scale + offset).astype(dtype)
    np.testing.assert_allclose(from_array(whole, RATE).values, TONE, atol=1 / scale)


@pytest.mark.parametrize(
    ("values", "rate", "message"),
    [
        (TONE, 0, "its sampling rate is 0, and must be a number of Hz"),
        (TONE, "16 kHz", "its sampling rate is '16 kHz'"),
        (TONE, 44.1, "its sampling rate is 44.1"),
        (TONE.reshape(-1, 2, 2), RATE, r"it has the shape \(1200, 2, 2\)"),
        (np.tile(TONE, (40, 1)), RATE, "and so 40 channels; pass each recording"),
        (20_000 * TONE, RATE, "full scale of floats is 1; divide those of 16 bits"),
        (TONE.astype("i8"), RATE, "its values are of dtype int64, and must be floats"),
        (TONE[:0], RATE, "it is empty, of 0 samples"),
        (np.full(10, np.nan), RATE, "it holds NaN or infinity"),
    ],
)
def test_arrays_that_are_no_recording(values, rate, message):
    with pytest.raises(ValueError, match=message):
        from_array(values, rate)


def test_bytes_that_are_no_recording(tmp_path):
    with pytest.raises(ValueError, match="it is empty, of 0 bytes"):
        decode(b"")
    text = b"no sound at all, but words"
    for read in (decode, lambda data: duration(io.BytesIO(data))):
        message = "libsndfile knows how to read .*; it begins with b'no sound at all,'"
        with pytest.raises(ValueError, match=message):
            read(text)
    with pytest.raises(ValueError, match="it is empty, of 0 samples"):
        decode(encoded(TONE[:0], format="WAV"))


def test_resampling_keeps_a_tone_and_its_duration():
    slow = from_array(make_tone(0.5, rate=44_100), 44_100)
    found = resample(slow, RATE)
    assert len(found) == RATE // 2
    np.testing.assert_allclose(found[500:-500], make_tone(0.5)[500:-500], atol=0.1)
    same = Waveform(TONE, RATE)
    assert resample(same, RATE) is TONE


def test_digests_and_durations_are_those_of_the_content(tmp_path):
    path = write_wav(tmp_path / "a.wav", TONE)
    data = Path(path).read_bytes()
    assert file_digest(path) == digest_of_bytes(data)
    assert file_duration(path) == duration(io.BytesIO(data)) == pytest.approx(0.3)
    assert from_array(TONE, RATE).seconds == pytest.approx(0.3)
    known = digest_of_array(TONE, RATE)
    assert digest_of_array(TONE.astype(">f4"), 16_000.0) == known
    others = (TONE, 8000), (TONE[::-1], RATE), (TONE.astype(float), RATE)
    assert known not in {digest_of_array(*other) for other in others}
