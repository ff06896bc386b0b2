import numpy as np
import pytest
from PIL import Image

from sktransfer.adaptation import image_statistics
from sktransfer.adaptation._image_statistics import (
    STATISTICS,
    central,
    common_side,
    own_side,
)
from sktransfer.adaptation._lab import to_lab
from tests.adaptation._photographs import CROPS, blurred, decoded, jpeg, noisy, whole


def ratios(name, change):
    before, after = (
        np.array([image_statistics(c)[name] for c in crops])
        for crops in (CROPS[::4], [change(c) for c in CROPS[::4]])
    )
    return after / before


@pytest.mark.parametrize("factor", [0.3, 0.5, 0.8])
def test_brightness_and_contrast_follow_a_factor(factor):
    for name in ("brightness", "contrast"):
        found = ratios(name, lambda crop: whole(factor * crop))
        np.testing.assert_allclose(found, factor, rtol=0.01)


def test_contrast_alone():
    grey = np.full((1, 1, 3), 128.0)
    found = ratios("contrast", lambda crop: whole(grey + 0.5 * (crop - grey)))
    np.testing.assert_allclose(found, 0.5, rtol=0.02)


def test_all_at_once():
    crop = decoded(jpeg(blurred(CROPS[4], 2), 40))
    found = image_statistics(crop)
    assert tuple(found) == STATISTICS
    assert found["blur"] == pytest.approx(2, abs=0.5)
    assert (found["jpeg_quality"], found["side"]) == (40, 192)
    found = image_statistics(noisy(blurred(CROPS[4], 2), 7))
    assert found["noise"] == pytest.approx(7, rel=0.1)
    assert found["blur"] == pytest.approx(2, abs=0.5)


def test_colours_and_background():
    pixels = np.full((60, 80, 3), (0, 0, 255), dtype=np.uint8)
    pixels[10:-10, 10:-10] = (255, 0, 0)
    found = image_statistics(Image.fromarray(pixels))
    assert found["background_lightness"] == pytest.approx(32.3, abs=0.1)
    assert found["background_blue_yellow"] == pytest.approx(-107.86, abs=0.1)
    assert found["background_spread"] == pytest.approx(0, abs=1e-3)
    red = 40 * 60 / (60 * 80)
    expected = red * 53.24 + (1 - red) * 32.3
    assert found["lightness_mean"] == pytest.approx(expected, abs=0.1)
    assert found["side"] == 60


@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (8, 8)])
def test_tiny_images_can_be_measured(shape):
    found = image_statistics(np.full((*shape, 3), 51, dtype=np.uint8))
    assert found["brightness"] == pytest.approx(0.2)
    assert np.isfinite([*found.values()]).all()
    assert found["noise"] == found["blur"] == found["contrast"] == 0


def test_the_middle_is_cut_along_the_blocks_of_jpeg():
    rows = np.arange(700)[:, None, None] * np.ones((1, 300, 3), dtype=int)
    middle = central(rows)
    assert middle.shape == (256, 256, 3)
    assert middle[0, 0, 0] == 216 and middle[0, 0, 0] % 8 == 0
    assert central(rows[:100, :90]).shape == (100, 90, 3)


def framed(inside, border):
    pixels = np.full((40, 40, 3), border, dtype=np.uint8)
    pixels[10:30, 10:30] = inside
    return pixels


@pytest.mark.parametrize(
    ("inside", "border", "expected"), [(0, 255, 1), (255, 0, -1), (99, 99, 0)]
)
def test_sides_of_backgrounds(inside, border, expected):
    assert own_side(to_lab(framed(inside, border))) == expected
    rows = [[*image_statistics(framed(inside, border)).values()]] * 9
    other = [*image_statistics(framed(border, inside)).values()]
    assert common_side(np.array([*rows, other])) == expected
    assert common_side(np.array([*rows[:8], other, other])) == 0
