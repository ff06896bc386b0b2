import numpy as np
import pytest
import torch
from PIL import Image

from sktransfer.adaptation._image_statistics import image_statistics
from sktransfer.adaptation._style_steps import (
    SHIFTS,
    STEPS,
    apply_steps,
    mix_amplitudes,
)
from tests.adaptation._photographs import CROPS, blurred, decoded, jpeg, noisy

IMAGE = Image.fromarray(CROPS[4])
OWN = image_statistics(IMAGE)


def moved(steps, goal, share=1.0, image=IMAGE):
    torch.manual_seed(0)
    steps = [steps] if isinstance(steps, str) else steps
    own = image_statistics(image)
    return apply_steps(image, steps, {**own, **goal}, share)


def test_every_step_of_a_shift_exists():
    assert {step for steps in SHIFTS.values() for step in steps} <= {*STEPS}


@pytest.mark.parametrize("step", [*STEPS])
def test_share_of_zero_changes_at_most_the_rounding(step):
    goal = {**image_statistics(noisy(blurred(CROPS[0], 2), 9)), "jpeg_quality": 40}
    goal |= {"reference": CROPS[0], "beta": 0.1, "side": 40, "swaps": True}
    same = np.asarray(moved(step, goal, 0.0), dtype=int)
    assert abs(same - np.asarray(IMAGE)).max() <= 1
    other = np.asarray(moved(step, goal, 1.0), dtype=int)
    assert abs(other - np.asarray(IMAGE)).max() > 10


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_blur_moves_by_the_share(share):
    found = image_statistics(moved("blur", {"blur": 3.0}, share))["blur"]
    expected = OWN["blur"] + share * (3 - OWN["blur"])
    assert found == pytest.approx(expected, abs=0.4)


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_noise_moves_by_the_share(share, shared):
    goal = {"noise": 12.0, "noise_shared": shared}
    found = image_statistics(moved("noise", goal, share))
    expected = OWN["noise"] + share * (12 - OWN["noise"])
    assert found["noise"] == pytest.approx(expected, rel=0.1)
    assert found["noise_shared"] == pytest.approx(shared, abs=0.2)


@pytest.mark.parametrize("step", ["blur", "noise"])
def test_nothing_is_sharpened_or_denoised(step):
    image = Image.fromarray(noisy(blurred(CROPS[4], 2), 9))
    found = moved(step, {"blur": 0.0, "noise": 0.0}, image=image)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(image))


def test_lightness_leaves_the_colours():
    goal = {"lightness_mean": 40.0, "lightness_std": 10.0}
    found = image_statistics(moved("lightness", goal))
    assert found["lightness_mean"] == pytest.approx(40, abs=0.5)
    assert found["lightness_std"] == pytest.approx(10, abs=0.5)
    assert found["green_red_mean"] == pytest.approx(OWN["green_red_mean"], abs=1)
    assert found["blue_yellow_mean"] == pytest.approx(OWN["blue_yellow_mean"], abs=1)


@pytest.mark.parametrize("step", ["colour", "histogram"])
def test_colours_of_another_photograph(step):
    other = blurred(CROPS[-1], 1)
    goal = {**image_statistics(other), "reference": other}
    found = image_statistics(moved(step, goal))
    for name in ("lightness", "green_red", "blue_yellow"):
        for moment in ("mean", "std"):
            key = f"{name}_{moment}"
            # Colours that no screen shows are lost.
            assert abs(found[key] - goal[key]) < max(2, abs(OWN[key] - goal[key]) / 2)


def test_contrast_is_not_counted_twice_where_noise_follows():
    target = noisy(blurred(CROPS[0] * 0.4, 1), 20)
    goal = image_statistics(target)
    found = image_statistics(moved(["colour", "noise"], goal))
    assert found["contrast"] == pytest.approx(goal["contrast"], rel=0.15)
    assert found["noise"] == pytest.approx(goal["noise"], rel=0.1)


def test_jpeg_compresses_with_a_share_of_the_quality():
    for share, quality in ((1.0, 30), (0.5, 65)):
        found = moved("jpeg", {"jpeg_quality": 30.0}, share)
        np.testing.assert_array_equal(found, decoded(jpeg(CROPS[4], quality)))


def test_resolution_goes_down_and_back():
    found = moved("resolution", {"side": 48.0})
    assert found.size == IMAGE.size
    small = found.resize((48, 48), Image.Resampling.BOX)
    back = small.resize(found.size, Image.Resampling.BILINEAR)
    lost = [np.abs(np.asarray(a, float) - np.asarray(back)) for a in (found, IMAGE)]
    assert lost[0].mean() < 0.5 * lost[1].mean()
    same = moved("resolution", {"side": 4000.0})
    np.testing.assert_array_equal(np.asarray(same), np.asarray(IMAGE))


def test_other_steps_happen_at_the_resolution_of_the_target():
    goal = {"side": 48.0, "noise": 20.0, "noise_shared": 0.0}
    noisy_one, clean = moved(["resolution", "noise"], goal), moved("resolution", goal)
    there = Image.fromarray(noisy(np.full((48, 48, 3), 128), 20))
    noise_there, with_noise, without = (
        np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR), dtype=float)
        for image in (there, noisy_one, clean)
    )
    added = (with_noise - without).std()
    assert added == pytest.approx(noise_there.std(), rel=0.25)


def test_blur_is_in_pixels_of_the_target():
    found = moved("blur", {"side": 96.0, "blur": 1.0})
    assert image_statistics(found)["blur"] == pytest.approx(2, abs=0.4)


def test_erase_covers_a_rectangle_of_up_to_a_third():
    goal = {f"background_{c}": 0.0 for c in ("lightness", "green_red", "blue_yellow")}
    shares = []
    for seed in range(20):
        torch.manual_seed(seed)
        found = apply_steps(IMAGE, ["erase"], {**OWN, **goal}, 1.0)
        black = np.asarray(found).max(axis=2) == 0
        rows, columns = np.flatnonzero(black.any(1)), np.flatnonzero(black.any(0))
        assert black[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean() > 0.9
        shares.append(black.mean())
    assert max(shares) <= 0.34 and max(shares) > 0.2 > 0.1 > min(shares)


def test_grey_images_stay_grey_in_front_of_grey_ones():
    grey = Image.fromarray(CROPS[4]).convert("L").convert("RGB")
    goal = image_statistics(noisy(np.asarray(grey) * 0.5, 6, grey=True))
    found = np.asarray(moved(SHIFTS["measured"], goal, image=grey), dtype=int)
    assert abs(found - found[..., :1]).max() <= 2


# Amplitudes

ONE, OTHER = CROPS[0].astype(float), CROPS[-1].astype(float)


@pytest.mark.parametrize("nothing", [{"beta": 0}, {"beta": 0.1, "share": 0}])
def test_beta_or_share_of_zero_is_the_identity(nothing):
    np.testing.assert_allclose(mix_amplitudes(ONE, OTHER, **nothing), ONE, atol=1e-9)
    mixed = mix_amplitudes(ONE, ONE, beta=0.1)
    np.testing.assert_allclose(mixed, ONE, atol=1e-9)


def test_a_small_beta_takes_over_the_means_alone():
    found = mix_amplitudes(ONE, OTHER, beta=1e-6)
    shift = OTHER.mean(axis=(0, 1)) - ONE.mean(axis=(0, 1))
    np.testing.assert_allclose(found, ONE + shift, atol=1e-9)


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_low_amplitudes_move_and_all_else_is_kept(share):
    found = mix_amplitudes(ONE, OTHER, beta=0.05, share=share)
    own, other, mixed = (
        np.fft.fftshift(np.fft.fft2(x, axes=(0, 1)), axes=(0, 1))
        for x in (ONE, OTHER, found)
    )
    middle, reach = 96, 9  # waves up to 0.05 * 192 = 9.6
    low = np.zeros(own.shape, dtype=bool)
    low[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1] = True
    expected = np.where(low, (1 - share) * abs(own) + share * abs(other), abs(own))
    np.testing.assert_allclose(abs(mixed), expected, rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(mixed * abs(own), own * abs(mixed), rtol=1e-5, atol=10)


def published(image, reference, beta):
    """Mix amplitudes as in the code of Yang and Soatto."""
    transformed = [np.fft.fft2(x, axes=(0, 1)) for x in (image, reference)]
    own, other = (np.fft.fftshift(abs(t), axes=(0, 1)) for t in transformed)
    h, w = image.shape[:2]
    reach = int(np.floor(min(h, w) * beta))
    rows, columns = (slice(n // 2 - reach, n // 2 + reach + 1) for n in (h, w))
    own[rows, columns] = other[rows, columns]
    mixed = np.fft.ifftshift(own, axes=(0, 1)) * np.exp(1j * np.angle(transformed[0]))
    return np.fft.ifft2(mixed, axes=(0, 1)).real


@pytest.mark.parametrize("side", [49, 100])
@pytest.mark.parametrize("beta", [0.01, 0.09])
def test_amplitudes_are_mixed_as_published(side, beta):
    image, other = ONE[:side], OTHER[:side]
    expected = published(image, other, beta)
    np.testing.assert_allclose(mix_amplitudes(image, other, beta=beta), expected)


def test_odd_sizes_give_real_images():
    image, other = np.random.RandomState(0).uniform(0, 255, (2, 5, 7, 3))
    found = mix_amplitudes(image, other, beta=0.5)
    np.testing.assert_allclose(found.mean((0, 1)), other.mean((0, 1)))
