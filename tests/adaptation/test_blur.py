import numpy as np
import pytest

from sktransfer.adaptation._blur import add_blur, estimate_blur
from sktransfer.adaptation._lab import luma_of
from sktransfer.adaptation._noise import estimate_noise, noise_of_luma
from tests.adaptation._photographs import CROPS, blurred, noisy

OUT_OF_FOCUS = 11
SHARP = [crop for i, crop in enumerate(CROPS) if i != OUT_OF_FOCUS][::2]


def found(pixels):
    return estimate_blur(luma_of(pixels), noise_of_luma(*estimate_noise(pixels)))


@pytest.mark.parametrize("sigma", [1, 1.5, 2, 3])
@pytest.mark.parametrize("noise", [0, 5])
def test_blur_that_was_added_is_found(sigma, noise):
    estimates = [found(noisy(blurred(crop, sigma), noise)) for crop in SHARP]
    assert np.median(estimates) == pytest.approx(sigma, abs=0.3)
    np.testing.assert_allclose(estimates, sigma, atol=0.8)


def test_what_is_out_of_focus_counts_as_blurred():
    assert found(CROPS[OUT_OF_FOCUS]) > 2 > max(map(found, SHARP))


def test_more_blur_is_found_as_more():
    for crop in SHARP:
        estimates = [found(blurred(crop, s)) for s in (0, 1.5, 2.5, 4)]
        assert np.all(np.diff(estimates) > 0)


def test_noise_would_hide_the_blur_if_it_were_not_known():
    crop = noisy(blurred(CROPS[0], 2), 15)
    assert found(crop) == pytest.approx(2, abs=0.5)
    assert estimate_blur(luma_of(crop)) < 1


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (40, 40)])
def test_flat_images_have_none(shape):
    assert estimate_blur(np.full(shape, 9.0)) == 0


def test_add_blur_leaves_channels_apart():
    pixels = np.zeros((21, 21, 3))
    pixels[10, 10, 1] = 1
    spread = add_blur(pixels, 2)
    assert spread[..., [0, 2]].max() == 0
    assert spread[..., 1].sum() == pytest.approx(1)
    rows = np.arange(21) - 10
    assert (spread[..., 1].sum(axis=1) @ rows**2) == pytest.approx(4, rel=0.05)
