import io

import numpy as np
import pytest
from PIL import Image

from sktransfer.adaptation._image_statistics import (
    STATISTICS,
    background_side,
    from_lab,
    image_statistics,
    jpeg_quality,
    noise_and_blur,
    noise_in_lab,
    prevailing_side,
    to_lab,
)
from sktransfer.utils import import_optional
from tests.adaptation._photographs import CROPS, blurred, jpeg, noisy, whole

SMOOTH = [blurred(crop, 0.7) for crop in CROPS[::4]]  # hardly any noise of their own
OUT_OF_FOCUS = 11
SHARP = [crop for i, crop in enumerate(CROPS) if i != OUT_OF_FOCUS][::2]


def ratios(name, change):
    before, after = (
        np.array([image_statistics(c)[name] for c in crops])
        for crops in (CROPS[::4], [change(c) for c in CROPS[::4]])
    )
    return after / before


def test_brightness_and_contrast_follow_a_factor():
    for name in ("brightness", "contrast"):
        found = ratios(name, lambda crop: whole(0.5 * crop))
        np.testing.assert_allclose(found, 0.5, rtol=0.01)
    found = ratios("contrast", lambda crop: whole(128 + 0.5 * (crop - 128.0)))
    np.testing.assert_allclose(found, 0.5, rtol=0.02)


def test_all_statistics_at_once():
    found = image_statistics(noisy(blurred(CROPS[4], 2), 7))
    assert tuple(found) == STATISTICS
    assert found["noise"] == pytest.approx(7, rel=0.1)
    assert found["blur"] == pytest.approx(2, abs=0.5)
    assert (found["jpeg_quality"], found["side"]) == (100, 192)


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
def test_tiny_and_flat_images_can_be_measured(shape):
    found = image_statistics(np.full((*shape, 3), 51, dtype=np.uint8))
    assert found["brightness"] == pytest.approx(0.2)
    assert np.isfinite([*found.values()]).all()
    assert found["noise"] == found["blur"] == 0
    assert found["contrast"] == pytest.approx(0, abs=1e-6)


def test_colours_go_to_lab_and_back():
    pixels = np.random.RandomState(0).randint(0, 256, (40, 50, 3), dtype=np.uint8)
    np.testing.assert_allclose(from_lab(to_lab(pixels)), pixels, atol=0.1)
    beyond = from_lab(np.array([[100.0, 90, 90], [0, -90, 90], [0, -90, -90]]))
    assert beyond.min() >= 0 and beyond.max() <= 255


@pytest.mark.parametrize("sigma", [2, 5, 20])
@pytest.mark.parametrize("grey", [False, True])
def test_noise_that_was_added_is_found_within_an_eighth(sigma, grey):
    found = [noise_and_blur(noisy(c, sigma, grey=grey)) for c in SMOOTH]
    noise, shared, _ = zip(*found, strict=True)
    np.testing.assert_allclose(noise, sigma, rtol=0.12)
    np.testing.assert_allclose(shared, float(grey), atol=0.4)
    assert np.median(shared) == pytest.approx(float(grey), abs=0.1)


def test_noise_hidden_by_black_is_left_out():
    half = np.full((64, 64, 3), 128, dtype=np.uint8)
    half[:, :32] = 0
    found, _, _ = noise_and_blur(noisy(half, 8) * (half > 0))
    assert found == pytest.approx(8, rel=0.1)


@pytest.mark.parametrize("sigma", [1, 2, 3])
@pytest.mark.parametrize("noise", [0, 5])
def test_blur_that_was_added_is_found(sigma, noise):
    found = [noise_and_blur(noisy(blurred(crop, sigma), noise))[2] for crop in SHARP]
    assert np.median(found) == pytest.approx(sigma, abs=0.4)
    np.testing.assert_allclose(found, sigma, atol=0.9)


def test_out_of_focus_images_count_as_blurred():
    found = [noise_and_blur(crop)[2] for crop in SHARP]
    assert noise_and_blur(CROPS[OUT_OF_FOCUS])[2] > 1.8 > max(found)


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_noise_in_lab_equals_simulated_noise(shared):
    pixel, draw = (60, 90, 120), np.random.RandomState(0).normal
    own, common = draw(size=(100, 100, 3)), draw(size=(100, 100, 1))
    noise = 3 * (np.sqrt(shared) * common + np.sqrt(1 - shared) * own)
    lab = to_lab(np.float32(pixel) + noise)
    np.testing.assert_allclose(
        noise_in_lab(3, shared, pixel), lab.var(axis=(0, 1)), rtol=0.1, atol=0.02
    )


def test_jpeg_quality_is_read_from_files():
    for quality in (1, 15, 50, 72, 90, 95, 100):
        content = jpeg(CROPS[0], quality)
        assert jpeg_quality(content) == quality
        with Image.open(io.BytesIO(content)) as image:
            assert image_statistics(image)["jpeg_quality"] == quality
    png = io.BytesIO()
    Image.fromarray(CROPS[0]).save(png, "PNG")
    assert jpeg_quality(png.getvalue()) == jpeg_quality(None) == 100


def test_quality_of_the_tables_of_other_encoders_is_the_nearest():
    with Image.open(io.BytesIO(jpeg(CROPS[0], 70))) as image:
        table = [min(255, n + 1) for n in image.quantization[0]]
    file = io.BytesIO()
    Image.fromarray(CROPS[0]).save(file, "JPEG", qtables=[table, table])
    assert jpeg_quality(file.getvalue()) == pytest.approx(70, abs=4)


def framed(inside, border):
    pixels = np.full((40, 40, 3), border, dtype=np.uint8)
    pixels[10:30, 10:30] = inside
    return pixels


@pytest.mark.parametrize(
    ("inside", "border", "expected"), [(0, 255, 1), (255, 0, -1), (99, 99, 0)]
)
def test_sides_of_backgrounds(inside, border, expected):
    assert background_side(to_lab(framed(inside, border))) == expected
    rows = [[*image_statistics(framed(inside, border)).values()]] * 9
    other = [*image_statistics(framed(border, inside)).values()]
    assert prevailing_side(np.array([*rows, other])) == expected
    assert prevailing_side(np.array([*rows[:8], other, other])) == 0


def test_missing_scikit_image_raises(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="skimage")

    monkeypatch.setattr(f"{import_optional.__module__}.import_module", absent)
    message = r"styles needs skimage\. Install it with: pip install 'sktransfer\[adapt"
    with pytest.raises(ImportError, match=message):
        image_statistics(CROPS[0])
