import numpy as np
import pytest
import torch
from PIL import Image

from sktransfer.adaptation._image_statistics import image_statistics
from sktransfer.adaptation._style_steps import SHIFTS, STEPS, apply_steps
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
    goal |= {"side": 40, "swaps": True}
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


def test_colours_of_another_photograph():
    other = blurred(CROPS[-1], 1)
    goal = image_statistics(other)
    found = image_statistics(moved("colour", goal))
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


def test_grey_images_stay_grey_in_front_of_grey_ones():
    grey = Image.fromarray(CROPS[4]).convert("L").convert("RGB")
    goal = image_statistics(noisy(np.asarray(grey) * 0.5, 6, grey=True))
    found = np.asarray(moved(SHIFTS["measured"], goal, image=grey), dtype=int)
    assert abs(found - found[..., :1]).max() <= 2
