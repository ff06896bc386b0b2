"""Preprocessing of images."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision import transforms

import sktransfer.inputs.images._preprocessing as image_module
from sktransfer.inputs import ImagePreprocessing

MODES = transforms.InterpolationMode
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_preprocessing(size=(24, 32), resize=36, interpolation="bicubic"):
    return ImagePreprocessing(size, resize, interpolation, MEAN, STD)


def random_image(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def by_torchvision(image, preprocessing, mode):
    resize = preprocessing.resize
    image = transforms.Resize(
        list(resize) if isinstance(resize, tuple) else resize, interpolation=mode
    )(image)
    return np.asarray(transforms.CenterCrop(preprocessing.size)(image))


@pytest.mark.parametrize("mode", list(MODES), ids=lambda mode: mode.value)
@pytest.mark.parametrize("resize", [36, 20, (29, 41), (24, 32)])
@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 301), (301, 3), (37, 53), (53, 36), (20, 20), (36, 36)]
)
def test_prepare_equals_torchvision(shape, resize, mode):
    image = random_image(*shape)
    preprocessing = make_preprocessing(resize=resize, interpolation=mode.value)
    prepared = preprocessing.prepare(image)
    assert prepared.dtype == np.uint8
    np.testing.assert_array_equal(prepared, by_torchvision(image, preprocessing, mode))


@pytest.mark.parametrize("resize", [256, 232])
def test_prepare_equals_torchvision_on_photos(resize):
    preprocessing = make_preprocessing((224, 224), resize)
    for photo in load_sample_images().images:
        image = Image.fromarray(photo)
        np.testing.assert_array_equal(
            preprocessing.prepare(image),
            by_torchvision(image, preprocessing, MODES.BICUBIC),
        )


@pytest.mark.parametrize("resize", [36, 20])
@pytest.mark.parametrize("shape", [(5, 301), (301, 5), (300, 200)])
def test_prepare_long_image_close_to_torchvision(monkeypatch, shape, resize):
    monkeypatch.setattr(image_module, "MAX_RESIZED_PIXELS", 1)
    image = random_image(*shape)
    preprocessing = make_preprocessing(resize=resize, interpolation="bilinear")
    expected = by_torchvision(image, preprocessing, MODES.BILINEAR)
    difference = np.abs(preprocessing.prepare(image) - expected.astype(int))
    assert difference.max() <= 1


def test_prepare_very_long_image_needs_little_memory():
    preprocessing = make_preprocessing((224, 224), 256)
    prepared = preprocessing.prepare(Image.new("RGB", (1, 60_000), "blue"))
    assert (prepared == (0, 0, 255)).all() and prepared.shape == (224, 224, 3)


def test_to_input_equals_formula():
    preprocessing = make_preprocessing()
    batch = torch.arange(2 * 24 * 32 * 3).reshape(2, 24, 32, 3).to(torch.uint8)
    inputs = preprocessing.to_input(batch)
    to_tensor = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    )
    expected = torch.stack([to_tensor(image) for image in batch.numpy()])
    assert inputs.dtype == torch.float32
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(inputs, expected, atol=2e-6, rtol=0)


def test_example_has_input_shape():
    preprocessing = make_preprocessing()
    assert preprocessing.input_shape == (3, 24, 32)
    assert preprocessing.example(5).shape == (5, 3, 24, 32)
    assert preprocessing.example().dtype == torch.float32
    assert preprocessing.kind == "image"


@pytest.mark.parametrize(
    ("size", "resize", "image_size", "new_size", "new_resize"),
    [
        ((224, 224), 256, 112, (112, 112), 128),
        ((224, 224), 256, (112, 448), (112, 448), 512),
        ((224, 224), 224, 97, (97, 97), 97),
        ((200, 100), (220, 110), (100, 200), (100, 200), (110, 220)),
        ((224, 224), 8, 1, (1, 1), 1),
    ],
)
def test_with_size_keeps_ratio(size, resize, image_size, new_size, new_resize):
    preprocessing = make_preprocessing(size, resize).with_size(image_size)
    assert (preprocessing.size, preprocessing.resize) == (new_size, new_resize)
    assert preprocessing.mean == MEAN


def test_with_size_none_returns_itself():
    preprocessing = make_preprocessing()
    assert preprocessing.with_size(None) is preprocessing


@pytest.mark.parametrize("image_size", [0, -3, True, 2.5, (3,), (3, 0), "large"])
def test_with_size_invalid(image_size):
    with pytest.raises(ValueError, match="`image_size` must be a positive int, a pair"):
        make_preprocessing().with_size(image_size)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"size": 224}, r"`size` must be a pair \(h, w\) of positive ints.*Got 224"),
        ({"resize": 0}, r"`resize` must be a positive int .*Got 0"),
        ({"interpolation": "cubic"}, r"`interpolation` must be one of .*Got 'cubic'"),
        ({"mean": (0.5,)}, r"`mean` must hold 3 finite floats.*Got \(0.5,\)"),
        ({"mean": 0.5}, r"`mean` must hold 3 finite floats.*Got 0.5"),
        ({"std": (1, 1, "a")}, r"`std` must hold 3 finite floats"),
        ({"std": (1, 1, float("nan"))}, r"`std` must hold 3 finite floats.*nan\)"),
        ({"std": (1, 0, 1)}, r"`std` must be positive. Got \(1, 0, 1\)"),
        ({"reducing_gap": 0.5}, r"`reducing_gap` must be a number of at least 1.*0.5"),
        ({"reducing_gap": "2"}, r"`reducing_gap` must be a number .*Got '2'"),
        ({"reducing_gap": True}, r"`reducing_gap` must be a number .*Got True"),
    ],
)
def test_preprocessing_invalid(parameters, message):
    valid = {
        "size": (8, 8),
        "resize": 8,
        "interpolation": "bilinear",
        "mean": MEAN,
        "std": STD,
    }
    with pytest.raises(ValueError, match=message):
        ImagePreprocessing(**{**valid, **parameters})


def test_key_holds_every_parameter():
    preprocessing = make_preprocessing()
    others = [
        make_preprocessing(size=(32, 24)),
        make_preprocessing(resize=37),
        make_preprocessing(resize=(36, 36)),
        make_preprocessing(interpolation="bilinear"),
        ImagePreprocessing((24, 32), 36, "bicubic", (0.5, 0.5, 0.5), STD),
        ImagePreprocessing((24, 32), 36, "bicubic", MEAN, (0.5, 0.5, 0.5)),
        ImagePreprocessing((24, 32), 36, "bicubic", MEAN, STD, 1.5),
        ImagePreprocessing((24, 32), 36, "bicubic", MEAN, STD, 2),
    ]
    assert len({p.key() for p in [preprocessing, *others]}) == 9
    assert preprocessing.key().startswith("image-v1;")


def test_key_same_for_equal_values_of_other_types():
    numpy_typed = ImagePreprocessing(
        [np.int64(24), 32], np.int64(36), "bicubic", np.array(MEAN), list(STD)
    )
    assert numpy_typed == make_preprocessing()
    assert numpy_typed.key() == make_preprocessing().key()
    assert pickle.loads(pickle.dumps(numpy_typed)) == make_preprocessing()


@pytest.mark.parametrize(("resize", "side"), [(36, 54), ((36, 41), 62)])
def test_least_side_follows_the_resized_size(resize, side):
    preprocessing = make_preprocessing(resize=resize)
    assert preprocessing.least_side is None
    reduced = replace(preprocessing, reducing_gap=1.5)
    assert reduced.least_side == side
    assert reduced.with_size((48, 64)).least_side == 2 * side - (resize != 36)


def test_defaults_are_those_of_imagenet():
    preprocessing = ImagePreprocessing()
    assert preprocessing.size == preprocessing.resize == (224, 224)
    assert preprocessing.interpolation == "bilinear"
    assert preprocessing.mean == (0.485, 0.456, 0.406)
    assert ImagePreprocessing(size=(8, 9)).resize == (8, 9)
