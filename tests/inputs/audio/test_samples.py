from pathlib import Path

import numpy as np
import pytest
import torch

from sktransfer.inputs import UnreadableSampleError, Waveform
from sktransfer.inputs.audio._samples import AudioSamples, as_item
from tests._recordings import RATE, make_tone, write_wav

TONE = make_tone(0.2)


@pytest.fixture
def path(tmp_path):
    return write_wav(tmp_path / "tone.wav", TONE)


def samples_of(*items):
    return AudioSamples([as_item(item) for item in items], max_seconds=9)


def test_the_same_recording_in_any_form(path):
    data = Path(path).read_bytes()
    values = np.round(TONE * 2**15).astype(np.int16)
    forms = samples_of(
        path,
        Path(path),
        data,
        bytearray(data),
        (values, RATE),
        (RATE, values),
        {"path": "a.wav", "array": values, "sampling_rate": RATE},
        (torch.from_numpy(values), RATE),
        Waveform(values / np.float32(2**15), RATE),
        [(values / 2**15).tolist(), RATE],
    )
    for i in range(len(forms)):
        np.testing.assert_allclose(forms[i].values, TONE, atol=2**-15)
        assert forms[i].rate == RATE
        assert forms.seconds(i) == pytest.approx(0.2)
        found, waveform = forms.read(i)
        assert found == forms.digest(i)
        np.testing.assert_array_equal(waveform.values, forms[i].values)
    digests = [forms.digest(i) for i in range(8)]
    assert len({*digests[:4]}) == 1 and len({*digests[4:]}) == 1


def test_parts_keep_rows_names_and_digests(path):
    whole = samples_of((TONE, RATE), path, (TONE[::-1], RATE))
    whole.digests = [whole.digest(i) for i in range(3)]
    part = whole.take([2, 1])
    assert [part.describe(i) for i in range(2)] == ["sample 2", f"sample 1 ({path!r})"]
    assert [part.name(i) for i in range(2)] == [None, path]
    assert [part.can_change(i) for i in range(2)] == [False, True]
    assert part.digests == [part.digest(i) for i in range(2)]
    assert part.labels is None
    assert len(whole.take(np.array([True, False, True]))) == 2


def test_another_beginning_of_the_same_recordings(path):
    whole = samples_of((TONE, RATE), path, Path(path).read_bytes())
    whole.digests = [whole.digest(i) for i in range(3)]
    short = whole.take([2, 1]).up_to(0.1)
    assert [len(short[i].values) for i in range(2)] == [RATE // 10] * 2
    assert [short.read(i)[0] for i in range(2)] == short.digests
    again = short.take([0]).up_to(9)
    np.testing.assert_array_equal(again[0].values, whole[2].values)
    assert again.seconds(0) == short.seconds(0) == pytest.approx(0.2)


def test_files_that_change_are_told_once(path):
    samples = samples_of(path)
    with pytest.warns(UserWarning, match="Sample 0 .*tone.wav'\\) changed while"):
        samples.take([0]).warn_of_change(0)
    samples.warn_of_change(0)  # warnings are errors


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("missing.wav", "the file does not exist; relative paths start at"),
        (str(Path(__file__).parent), "it is a directory; pass the files in it"),
        (__file__, "it is no recording that libsndfile knows how to read"),
        (b"", "it is empty, of 0 bytes"),
        (None, r"it is missing \(None\)"),
        (TONE, "an array does not say its sampling rate; pass pairs"),
        (TONE.tolist(), "an array does not say its sampling rate; pass pairs"),
        (("a.wav", "yes"), "it is of type tuple, and no path, encoded recording or"),
        (3, "it is of type int, and no path, encoded recording or pair"),
    ],
)
def test_items_that_are_no_recording_are_named(item, message):
    samples = samples_of((TONE, RATE), item).take([1])
    where = "Got sample 1 \\('.*'\\)" if isinstance(item, str) else "Got sample 1"
    for read in (samples.__getitem__, samples.read, samples.seconds):
        with pytest.raises(UnreadableSampleError, match=f"{where}, .*{message}"):
            read(0)
