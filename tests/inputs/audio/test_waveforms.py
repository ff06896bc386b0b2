import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sktransfer.inputs.audio import _waveforms
from sktransfer.inputs.audio._waveforms import (
    Waveform,
    digest_of_array,
    digest_of_bytes,
    duration,
    file_digest,
    file_duration,
    from_array,
    read_file,
    resample,
)
from tests._recordings import RATE, make_tone, write_wav

TONE = make_tone(0.3)


def decode(data, max_seconds=100):
    return _waveforms.decode(io.BytesIO(data), max_seconds)


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


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_beginning_of_a_recording_is_what_the_whole_begins_with(format):
    values = np.stack([make_tone(9.5), make_tone(9.5, is_rising=False)], axis=1)
    data = encoded(values, format=format)
    with soundfile.SoundFile(io.BytesIO(data)) as file:  # in one piece
        whole = file.read(dtype="float32").mean(axis=1)
    np.testing.assert_array_equal(decode(data).values, whole)
    for seconds, n_values in ((5.0, 80_000), (0.5, 8000), (1e-9, 1)):
        np.testing.assert_array_equal(decode(data, seconds).values, whole[:n_values])


def test_what_follows_the_beginning_may_be_damaged():
    data = encoded(make_tone(3.0), format="FLAC")
    damaged = data[: len(data) // 2] + bytes(len(data) // 2)
    np.testing.assert_array_equal(decode(damaged, 0.5).values, decode(data, 0.5).values)


def test_memory_for_an_hour_is_that_for_its_beginning(tmp_path):
    path, second = str(tmp_path / "hour.wav"), make_tone(1.0, rate=8000)
    with soundfile.SoundFile(path, "w", samplerate=8000, channels=1) as file:
        file.write(second)
        for _ in range(60):
            file.write(np.zeros(8000 * 60, np.int16))
    assert file_duration(path) == 3601
    tracemalloc.start()
    try:
        found, waveform = read_file(path, 2.0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**21  # an hour is 58 MB in the file, and 115 MB as floats
    assert len(waveform.values) == 16_000 and not waveform.values[8000:].any()
    np.testing.assert_allclose(waveform.values[:8000], second, atol=2**-15)
    assert found == file_digest(path)


def test_file_that_is_written_while_it_is_read(tmp_path, monkeypatch):
    path = write_wav(tmp_path / "a.wav", TONE)
    known = file_digest(path)
    assert read_file(path, 9)[0] == known
    real = _waveforms.decode

    def decode_slowly(file, max_seconds):
        found = real(file, max_seconds)
        write_wav(path, TONE[::-1])
        return found

    monkeypatch.setattr(_waveforms, "decode", decode_slowly)
    found, waveform = read_file(path, 9)
    assert found not in (known, file_digest(path))
    np.testing.assert_allclose(waveform.values, TONE, atol=2**-15)


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


@pytest.mark.parametrize("format", ["WAV", "AIFF", "AU", "MP3"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_recordings_are_named(format, share):
    data = encoded(make_tone(1.0), format=format)
    assert len(decode(data).values) == RATE
    cut = data[: int(share * len(data))]
    text = r"it is truncated: it has \d\d% of the length that its header states"
    with pytest.raises(ValueError, match=text):
        decode(cut)
    whole, beginning = (decode(d, 0.2).values for d in (data, cut))
    np.testing.assert_array_equal(beginning, whole)  # which is not cut off


@pytest.mark.parametrize("stated", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_recordings_of_a_length_that_was_not_known_are_whole(stated):
    data = encoded(make_tone(1.0), format="WAV", subtype="PCM_16")
    at = data.index(b"data") + 4
    streamed = data[:at] + stated.to_bytes(4, "little") + data[at + 4 :]
    assert len(decode(streamed).values) == RATE
