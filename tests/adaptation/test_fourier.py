import numpy as np
import pytest

from sktransfer.adaptation import mix_amplitudes
from tests.adaptation._photographs import CROPS

IMAGE, OTHER = CROPS[0].astype(float), CROPS[-1].astype(float)


@pytest.mark.parametrize("nothing", [{"beta": 0}, {"beta": 0.1, "share": 0}])
def test_nothing_mixed_is_the_identity(nothing):
    found = mix_amplitudes(IMAGE, OTHER, **nothing)
    np.testing.assert_allclose(found, IMAGE, atol=1e-9)


@pytest.mark.parametrize("beta", [0.01, 0.1, 0.5])
def test_an_image_mixed_with_itself_is_itself(beta):
    found = mix_amplitudes(IMAGE, IMAGE, beta=beta)
    np.testing.assert_allclose(found, IMAGE, atol=1e-9)


def test_a_small_beta_takes_over_the_means_alone():
    found = mix_amplitudes(IMAGE, OTHER, beta=1e-6)
    np.testing.assert_allclose(found.mean(axis=(0, 1)), OTHER.mean(axis=(0, 1)))
    shift = OTHER.mean(axis=(0, 1)) - IMAGE.mean(axis=(0, 1))
    np.testing.assert_allclose(found, IMAGE + shift, atol=1e-9)


@pytest.mark.parametrize(("share", "beta"), [(1.0, 0.05), (0.25, 0.05)])
def test_low_amplitudes_move_and_everything_else_stays(share, beta):
    found = mix_amplitudes(IMAGE, OTHER, beta=beta, share=share)
    own, other, mixed = (
        np.fft.fftshift(np.fft.fft2(x, axes=(0, 1)), axes=(0, 1))
        for x in (IMAGE, OTHER, found)
    )
    middle, reach = 96, 9  # waves up to 0.05 * 192 = 9.6
    low = np.zeros(own.shape, dtype=bool)
    low[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1] = True
    expected = np.where(low, (1 - share) * abs(own) + share * abs(other), abs(own))
    np.testing.assert_allclose(abs(mixed), expected, rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(mixed * abs(own), own * abs(mixed), rtol=1e-5, atol=10)


def published(image, reference, beta):
    """Mix as the code of Yang and Soatto does."""
    transformed = [np.fft.fft2(x, axes=(0, 1)) for x in (image, reference)]
    own, other = (np.fft.fftshift(abs(t), axes=(0, 1)) for t in transformed)
    h, w = image.shape[:2]
    reach = int(np.floor(min(h, w) * beta))
    rows, columns = (slice(n // 2 - reach, n // 2 + reach + 1) for n in (h, w))
    own[rows, columns] = other[rows, columns]
    mixed = np.fft.ifftshift(own, axes=(0, 1)) * np.exp(1j * np.angle(transformed[0]))
    return np.fft.ifft2(mixed, axes=(0, 1)).real


@pytest.mark.parametrize("side", [20, 49, 100, 128])
@pytest.mark.parametrize("beta", [0.01, 0.05, 0.09, 0.1])
def test_amplitudes_are_mixed_as_published(side, beta):
    image, other = IMAGE[:side], OTHER[:side]
    expected = published(image, other, beta)
    np.testing.assert_allclose(mix_amplitudes(image, other, beta=beta), expected)


@pytest.mark.parametrize("shape", [(5, 8, 3), (1, 1, 3), (7, 7, 1)])
def test_odd_sizes_give_real_images(shape):
    rng = np.random.RandomState(0)
    image, other = rng.uniform(0, 255, (2, *shape))
    found = mix_amplitudes(image, other, beta=0.5)
    assert found.shape == shape
    np.testing.assert_allclose(found.mean((0, 1)), other.mean((0, 1)))


def test_another_shape():
    message = r"`reference` must have the shape of `pixels`, \(h, w, c\)\. Got \(2, 2"
    with pytest.raises(ValueError, match=message):
        mix_amplitudes(IMAGE, IMAGE[:2, :2])


@pytest.mark.parametrize(("name", "high"), [("beta", "0.5"), ("share", "1")])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_numbers_out_of_range(name, high, value):
    message = rf"`{name}` must be in \[0, {high}\]\. Got {value}\."
    with pytest.raises(ValueError, match=message):
        mix_amplitudes(IMAGE, OTHER, **{name: value})
