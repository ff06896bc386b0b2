import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from sktransfer.inputs import (
    AugmentedSamples,
    ImagePreprocessing,
    as_samples,
    iter_batches,
)
from sktransfer.inputs.images._augment import (
    PRESETS,
    ImageAugmentation,
    image_augmentation,
    preset_augmentation,
)

PREPROCESSING = ImagePreprocessing(
    size=(16, 16), resize=18, interpolation="bilinear", mean=(0,) * 3, std=(1,) * 3
)
IMAGES = np.random.RandomState(0).randint(0, 256, (6, 24, 24, 3), dtype=np.uint8)
SEEDS = list(range(6))


def views_of(augment, seeds=SEEDS, images=IMAGES):
    augment = image_augmentation(augment, PREPROCESSING)
    return AugmentedSamples(as_samples(images, PREPROCESSING), augment, seeds)


@pytest.mark.parametrize("name", PRESETS)
def test_a_view_depends_on_its_seed_alone(name):
    augment = preset_augmentation(name, PREPROCESSING)
    views = views_of(augment)
    first = [np.asarray(view) for view in views]
    again = [np.asarray(view) for view in views_of(augment).take([3, 1])]
    np.testing.assert_array_equal(again, [first[3], first[1]])
    others = views_of(augment, SEEDS[::-1])
    assert not np.array_equal(np.asarray(others[0]), first[0])


def test_views_are_the_same_from_many_threads():
    views = views_of(preset_augmentation("crop_flip", PREPROCESSING))
    one, many = (
        torch.cat([b for _, b in iter_batches(views, PREPROCESSING, 3, n_threads=n)])
        for n in (1, 4)
    )
    assert one.shape == (6, 16, 16, 3) and torch.equal(one, many)


def test_flip_mirrors_about_half():
    same = np.repeat(IMAGES[:1], 40, axis=0)
    seeds = list(range(40))
    flip = v2.RandomHorizontalFlip()
    kept = [np.array_equal(v, same[0]) for v in views_of(flip, seeds, same)]
    mirrored = [
        np.array_equal(v, same[0][:, ::-1]) for v in views_of(flip, seeds, same)
    ]
    assert np.array_equal(kept, ~np.array(mirrored)) and 10 < sum(kept) < 30


def test_crop_is_of_the_size_before_the_centre_crop():
    assert views_of(preset_augmentation("crop", PREPROCESSING))[0].size == (18, 18)
    exact = ImagePreprocessing((8, 12), (10, 14), "bilinear", (0,) * 3, (1,) * 3)
    assert views_of(preset_augmentation("crop", exact))[0].size == (14, 10)


def area_of(view, box=64):
    """Share of the area that a crop of a ramp shows, from its ends in both axes."""
    ramp = np.asarray(view, dtype=float)
    width, height = np.ptp(ramp[..., 0]), np.ptp(ramp[..., 1])
    return width * height / (box - 1) ** 2


@pytest.mark.parametrize(
    ("name", "lowest"),
    [("crop", 0.35), ("crop_flip", 0.35), ("light", 0.75)],
)
def test_crops_are_of_their_share_of_the_area(name, lowest):
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    ramp = np.stack([x, y, x * 0], 2).astype(np.uint8)
    fine = ImagePreprocessing((64, 64), 64, "bilinear", (0,) * 3, (1,) * 3)
    seeds = list(range(200))
    views = views_of(preset_augmentation(name, fine), seeds, [ramp] * 200)
    areas = np.array([area_of(view) for view in views])
    assert lowest - 0.06 < areas.min() < lowest + 0.1
    assert areas.max() > 0.9
    mirrored = [np.asarray(v)[0, 0, 0] > np.asarray(v)[0, -1, 0] for v in views]
    assert 60 < sum(mirrored) < 140 if name != "crop" else not any(mirrored)


def grey_views(name, n=60):
    grey = np.full((24, 24, 3), 100, dtype=np.uint8)
    views = views_of(preset_augmentation(name, PREPROCESSING), range(n), [grey] * n)
    return [np.asarray(view) for view in views]


@pytest.mark.parametrize("name", ["crop", "crop_flip", "light"])
def test_crops_keep_the_colours(name):
    assert {*np.unique(grey_views(name))} == {100}


def test_medium_changes_the_brightness_of_the_whole_image():
    views = grey_views("medium")
    levels = [np.unique(view) for view in views]
    assert all(len(level) == 1 for level in levels)
    levels = np.concatenate(levels)
    assert levels.min() >= 69 and levels.max() <= 131
    assert np.ptp(levels) > 40 and len({*levels}) > 20


def test_strong_erases_a_rectangle_half_of_the_time():
    views = grey_views("strong", 200)
    assert {view.shape for view in views} == {(18, 18, 3)}
    with_black = [(view == 0).all(2).any() and (view > 0).any() for view in views]
    assert 60 < sum(with_black) < 150  # rotations and shears leave black corners, too


def test_presets_differ():
    views = {
        name: np.stack(views_of(preset_augmentation(name, PREPROCESSING)))
        for name in PRESETS
    }
    for one, other in itertools.combinations(PRESETS, 2):
        assert not np.array_equal(views[one], views[other]), (one, other)


def test_tensors_and_modes_are_made_images():
    to_tensor = v2.PILToTensor()
    for view, image in zip(views_of(to_tensor), IMAGES, strict=True):
        np.testing.assert_array_equal(view, image)
    assert views_of(lambda image: image.convert("L"))[0].mode == "RGB"


def test_view_of_another_sample_has_another_digest(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4), "red").save(path)
    samples = as_samples([path], PREPROCESSING)
    drawn_for = [samples.digest(0)]
    views = AugmentedSamples(samples, lambda i: i, [0], [b"view"], drawn_for).take([0])
    assert views.can_change(0) and views.read(0)[0] == b"view"
    Image.new("RGB", (4, 4), "blue").save(path)
    found, view = views.read(0)
    assert found != b"view" and view.getpixel((0, 0)) == (0, 0, 255)
    with pytest.warns(UserWarning, match="changed while samples were read"):
        views.warn_of_change(0)


@pytest.mark.parametrize("kind", ["image", "array", "tensor"])
def test_augmentation_that_draws_on_its_image(kind):
    image = Image.new("RGB", (24, 24), "red")
    whole = {"image": image, "array": np.array(image)}
    whole["tensor"] = torch.from_numpy(np.array(image))

    def blacken(view):
        view.paste("black", (0, 0, 24, 24))
        return view

    views = views_of(blacken, images=[whole[kind]])
    assert views[0].getpixel((0, 0)) == (0, 0, 0)
    assert np.asarray(whole[kind])[0, 0].tolist() == [255, 0, 0]


def test_views_repeat_if_torch_draws_alone():
    rng = np.random.default_rng(0)
    assert views_of(preset_augmentation("strong", PREPROCESSING)).repeats()
    assert not views_of(lambda i: i.rotate(int(rng.integers(1, 90)))).repeats()


def test_augmentation_that_returns_an_array_or_a_tensor():
    expected = views_of(lambda image: image.rotate(90))[1]
    pixels = np.asarray(expected)
    for view in (pixels, pixels / 255, (pixels / 255).astype(np.float32)):
        assert views_of(lambda image, v=view: v)[1].tobytes() == expected.tobytes()
        tensor = torch.tensor(view).movedim(2, 0)
        assert views_of(lambda image, t=tensor: t)[1].tobytes() == expected.tobytes()
    grey = views_of(lambda image: pixels[:, :, 0])[1]
    assert grey.tobytes() == Image.fromarray(pixels[:, :, 0]).convert("RGB").tobytes()


def test_augmentation_that_returns_no_image():
    message = "failed on sample 1: .* must return a PIL image, an array .* Got NoneType"
    with pytest.raises(ValueError, match=message):
        views_of(lambda image: None)[1]
    message = "failed on sample 1: .* returned what is no image. Values must be within"
    with pytest.raises(ValueError, match=message):
        views_of(lambda image: np.full((4, 4, 3), 255.0))[1]


def test_sample_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4)).save(path)
    samples = as_samples([str(path)], PREPROCESSING)
    path.write_bytes(b"no image")
    views = AugmentedSamples(samples, lambda image: image, SEEDS[:1])
    with pytest.raises(
        ValueError, match="Samples must be readable images. Got sample 0"
    ):
        views[0]


def test_unknown_preset():
    message = "`augment` must be None, a callable or one of .* Did you mean 'crop'"
    with pytest.raises(ValueError, match=message):
        image_augmentation("crops", PREPROCESSING)


@pytest.mark.parametrize("name", PRESETS)
def test_views_of_files_that_are_decoded_at_a_part_of_their_size(name, tmp_path):
    path = str(tmp_path / "a.jpg")
    Image.new("RGB", (427, 640), "red").save(path)
    part = replace(PREPROCESSING, reducing_gap=2)
    augment = image_augmentation(name, part)
    views = AugmentedSamples(as_samples([path], part), augment, [0])
    assert part.prepare(views[0]).shape == part.prepared_shape


def test_an_enlarged_view_is_taken_in_full(tmp_path):
    path = str(tmp_path / "a.jpg")
    Image.effect_noise((100, 80), 60).convert("RGB").save(path)
    part = replace(PREPROCESSING, size=(60, 60), resize=60, reducing_gap=2)
    whole = replace(part, reducing_gap=None)
    augment = ImageAugmentation(lambda image: image.resize((300, 300)))
    found = [
        p.prepare(AugmentedSamples(as_samples([path], p), augment, [0])[0])
        for p in (part, whole)
    ]
    np.testing.assert_array_equal(*found)
