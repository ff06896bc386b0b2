import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_modes_mapping

from sktransfer.inputs.images import _resize
from sktransfer.inputs.images._resize import RESAMPLING

ALL = (slice(None), slice(None))
SIZES = [  # (h, w) before and after
    ((1, 1), (7, 5)),
    ((40, 30), (40, 30)),
    ((40, 30), (40, 13)),
    ((40, 30), (13, 30)),
    ((37, 53), (24, 36)),
    ((37, 53), (64, 91)),
    ((20, 91), (33, 17)),
    ((301, 3), (9, 2)),  # the height shrinks most
    ((3, 301), (2, 9)),
    ((480, 640), (73, 97)),
]


def random_images(size, n=2, seed=0):
    """Images of noise and of hard edges, which overshoot."""
    pixels = np.random.default_rng(seed).integers(0, 256, (n, *size, 3))
    pixels[-1] = 255 * (pixels[-1] > 127)
    return torch.from_numpy(pixels.astype(np.uint8))


def by_pillow(images, *sizes, interpolation):
    """Resize each image, to one size after the other."""
    resized = []
    for image in map(Image.fromarray, images.numpy()):
        for h, w in sizes:
            image = image.resize((w, h), RESAMPLING[interpolation])
        resized.append(np.asarray(image))
    return np.stack(resized)


@pytest.mark.parametrize("interpolation", RESAMPLING)
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_resize_equals_pillow(before, after, interpolation):
    images = random_images(before)
    found = _resize.resize(images, after, interpolation, ALL)
    assert found.dtype == torch.uint8
    expected = by_pillow(images, after, interpolation=interpolation)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("interpolation", RESAMPLING)
def test_resize_equals_pillow_at_random_sizes(interpolation):
    lengths = np.random.default_rng(1).integers(1, 90, (60, 4)).tolist()
    for h, w, *after in lengths:
        images = random_images((h, w), seed=h)
        found = _resize.resize(images, tuple(after), interpolation, ALL)
        expected = by_pillow(images, after, interpolation=interpolation)
        np.testing.assert_array_equal(found, expected, err_msg=f"{h} {w} {after}")


@pytest.mark.parametrize(
    ("height_first", "between"), [(True, (9, 31)), (False, (100, 5))]
)
def test_resize_in_the_order_of_the_version(monkeypatch, height_first, between):
    monkeypatch.setattr(_resize, "_MAY_START_WITH_HEIGHT", height_first)
    images = random_images((100, 31), n=9)
    found = _resize.resize(images, (9, 5), "bicubic", ALL)
    expected = by_pillow(images, between, (9, 5), interpolation="bicubic")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(50, 40), (31, 29)])
def test_window_is_a_part(interpolation, size):
    images, window = random_images((31, 29)), (slice(3, 20), slice(5, 6))
    whole = _resize.resize(images, size, interpolation, ALL)
    part = _resize.resize(images, size, interpolation, window)
    np.testing.assert_array_equal(part, whole[:, 3:20, 5:6])


def test_modes_are_those_of_torchvision():
    assert RESAMPLING == {mode.value: code for mode, code in pil_modes_mapping.items()}
