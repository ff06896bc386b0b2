import numpy as np
import pytest

from sktransfer.adaptation._lab import to_lab
from sktransfer.adaptation._noise import (
    add_noise,
    estimate_noise,
    noise_in_lab,
    noise_of_luma,
)
from tests.adaptation._photographs import CROPS, blurred, noisy

SMOOTH = [blurred(crop, 0.7) for crop in CROPS[::4]]  # hardly any noise of their own


@pytest.mark.parametrize("sigma", [2, 5, 10, 20])
@pytest.mark.parametrize("grey", [False, True])
def test_noise_that_was_added_is_found_within_an_eighth(sigma, grey):
    found, shared = zip(
        *(estimate_noise(noisy(c, sigma, grey=grey)) for c in SMOOTH), strict=True
    )
    np.testing.assert_allclose(found, sigma, rtol=0.12)
    np.testing.assert_allclose(shared, float(grey), atol=0.4)
    assert np.median(shared) == pytest.approx(float(grey), abs=0.1)


def test_more_noise_is_found_as_more():
    for crop in CROPS[::3]:
        found = [estimate_noise(noisy(crop, s))[0] for s in (0, 3, 6, 12, 24, 40)]
        assert np.all(np.diff(found) > 0)


def test_noise_hidden_by_black_is_left_out():
    half = np.full((64, 64, 3), 128, dtype=np.uint8)
    half[:, :32] = 0
    found, _ = estimate_noise(noisy(half, 8) * (half > 0))
    assert found == pytest.approx(8, rel=0.1)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 2, 3), (40, 40, 3)])
def test_flat_and_tiny_images_have_none(shape):
    assert estimate_noise(np.full(shape, 90, dtype=np.uint8)) == (0.0, 1.0)
    assert estimate_noise(np.zeros(shape, dtype=np.uint8)) == (0.0, 1.0)


@pytest.mark.parametrize("shared", [0.0, 0.4, 1.0])
def test_add_noise_has_the_spread_and_the_correlation(shared):
    rng = np.random.RandomState(0)
    added = add_noise(np.zeros((200, 200, 3)), 5, shared, lambda s: rng.normal(size=s))
    covariance = np.cov(added.reshape(-1, 3).T)
    expected = 25 * ((1 - shared) * np.eye(3) + shared)
    np.testing.assert_allclose(covariance, expected, atol=0.5)
    weights = np.array([0.299, 0.587, 0.114])
    assert noise_of_luma(5, shared) == pytest.approx((added @ weights).std(), rel=0.02)


@pytest.mark.parametrize("shared", [0.0, 1.0])
@pytest.mark.parametrize("pixel", [(128, 128, 128), (60, 90, 120)])
def test_noise_in_lab_is_what_noise_does_there(pixel, shared):
    rng = np.random.RandomState(0)
    flat = np.tile(np.float32(pixel), (100, 100, 1))
    lab = to_lab(add_noise(flat, 3, shared, lambda s: rng.normal(size=s)))
    np.testing.assert_allclose(
        noise_in_lab(3, shared, pixel), lab.var(axis=(0, 1)), rtol=0.1, atol=0.02
    )
