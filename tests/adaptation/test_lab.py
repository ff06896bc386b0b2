import numpy as np
import pytest

from sktransfer.adaptation._lab import from_lab, luma_of, to_lab


# As colour calculators give them, for D65.
@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((0, 0, 0), (0, 0, 0)),
        ((255, 255, 255), (100, 0, 0)),
        ((119, 119, 119), (50.03, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
    ],
)
def test_to_lab_of_known_colours(rgb, lab):
    np.testing.assert_allclose(to_lab(np.array([rgb]))[0], lab, atol=0.02)


def test_there_and_back_is_the_same():
    pixels = np.random.RandomState(0).randint(0, 256, (40, 50, 3), dtype=np.uint8)
    np.testing.assert_allclose(from_lab(to_lab(pixels)), pixels, atol=0.02)


def test_from_lab_clips_what_no_screen_shows():
    found = from_lab(np.array([[100.0, 90, 90], [0, -90, -90]]))
    assert found.min() >= 0 and found.max() <= 255


def test_luma_weighs_the_channels():
    pixels = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [7, 7, 7]])
    expected = [0.299 * 255, 0.587 * 255, 0.114 * 255, 7]
    np.testing.assert_allclose(luma_of(pixels), expected, rtol=1e-6)
