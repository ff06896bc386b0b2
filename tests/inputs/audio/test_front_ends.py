import numpy as np
import pytest

from sktransfer.inputs import LogMel
from sktransfer.inputs.audio._front_ends import (
    MelWindows,
    centred,
    mel_bands,
    padded_window,
)

GOOGLE = {
    "n_mels": 32,
    "low": 60.0,
    "high": 3800.0,
    "window": 400,
    "hop": 160,
    "n_fft": 512,
    "full_scale": 2.0**15,
}


def test_log_mel_spectrum_is_that_of_the_speech_embedding():
    """Values of `melspectrogram.tflite` in pyopen-wakeword 1.1.0."""
    t = np.arange(8000) / 16_000
    tone = 8000 * np.sin(2 * np.pi * (200 + 3000 * t) * t) * np.linspace(0.02, 1, 8000)
    tone = tone[: 512 + 46 * 160]  # what lies in whole frames
    front_end = LogMel(**GOOGLE, n_frames=1, step=1)
    prepared = front_end.prepare((tone / 2**15).astype(np.float32), 16_000)
    found = prepared["hidden"]
    assert found.shape == (47, 32) and prepared["mask"].tolist() == [True] * 47
    expected = [
        [6.1106, 3.6389, 3.6389, 3.6389],
        [3.6389, 4.7048, 6.6394, 3.6389],
        [3.6389, 3.6389, 4.1726, 4.7249],
        [3.6389, 3.6389, 3.6389, 7.4187],
    ]
    np.testing.assert_allclose(found[::12, ::8], expected, atol=2e-4)
    assert found.sum() == pytest.approx(7068.584, rel=1e-5)


@pytest.mark.parametrize(
    ("n_values", "n_frames"),
    [(0, 76), (1, 76), (12_512, 76), (12_600, 76), (12_672, 84), (13_900, 84)],
)
def test_number_of_frames_is_that_of_a_window_and_steps(n_values, n_frames):
    front_end = LogMel(**GOOGLE, n_frames=76, step=8)
    values = np.ones(n_values, np.float32)
    assert front_end.prepare(values, 16_000)["hidden"].shape == (n_frames, 32)


def test_short_recordings_are_in_the_middle_of_silence():
    noise = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    found = LogMel(**GOOGLE, n_frames=76, step=8).prepare(noise, 16_000)["hidden"]
    is_loud = found.mean(axis=1) > found.min() + 1
    first, last = np.flatnonzero(is_loud)[[0, -1]]
    assert abs(first - (75 - last)) <= 1


def test_silence_is_one_finite_value():
    found = LogMel(**GOOGLE, n_frames=76, step=8).prepare(np.zeros(10), 16_000)
    assert (found["hidden"] == -8).all()  # 1e-10 in bels, plus 2


def test_centred_pads_or_takes_the_middle():
    np.testing.assert_array_equal(centred(np.ones(2), 5), [0, 1, 1, 0, 0])
    np.testing.assert_array_equal(centred(np.arange(5), 2), [1, 2])
    np.testing.assert_array_equal(centred(np.arange(4), 4), [0, 1, 2, 3])


def test_bands_and_window():
    bands = mel_bands(40, 0.0, 8000.0, 400, 16_000)
    assert bands.shape == (201, 40)
    # Triangles of equal area, whose peaks are further apart the higher they are.
    np.testing.assert_allclose(bands[:, 8:].sum(0) * 40, 1, atol=0.12)
    peaks = bands.argmax(0)
    assert (np.diff(peaks) >= 0).all() and np.diff(peaks)[-1] > np.diff(peaks)[0]
    window = padded_window(400, 512)
    assert window.shape == (512,) and window[56] == 0 and window[256] == 1


def slices_of_resemblyzer(n):
    """Return the first frames of windows by the code of the package."""
    n_frames = int(np.ceil((n + 1) / 160))
    starts = [*range(0, max(1, n_frames - 160 + 77 + 1), 77)]
    coverage = (n - starts[-1] * 160) / (160 * 160)
    return starts[:-1] if coverage < 0.75 and len(starts) > 1 else starts


@pytest.mark.parametrize("n", [1, 400, 25_599, 25_600, 31_000, 32_000, 100_000])
def test_windows_are_those_of_resemblyzer(n):
    noise = np.random.default_rng(0).normal(size=n).astype(np.float32)
    found = MelWindows(n_mels=40).prepare(noise, 16_000)
    starts = slices_of_resemblyzer(n)
    assert found["hidden"].shape == (len(starts), 160 * 40)
    assert found["mask"].all()


def test_quiet_recordings_are_amplified():
    noise = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    front_end = MelWindows(n_mels=40)
    quiet, quieter = (front_end.prepare(s * noise, 16_000) for s in (1e-3, 1e-4))
    np.testing.assert_allclose(quiet["hidden"], quieter["hidden"], rtol=1e-3)
    silent = front_end.prepare(0 * noise, 16_000)
    assert (silent["hidden"] == 0).all()
