import re

import numpy as np
import pytest
import torch
from PIL import Image

from sktransfer.inputs import ImagePreprocessing
from sktransfer.inputs.images._raw import RawImages

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make(size=(24, 32), resize=36, interpolation="bicubic"):
    return ImagePreprocessing(size, resize, interpolation, MEAN, STD)


def random_images(h, w):
    pixels = np.random.default_rng(0).integers(0, 256, (3, h, w, 3))
    return pixels.astype(np.uint8)


@pytest.mark.parametrize(
    "preprocessing",
    [
        make(),
        make(resize=20),  # smaller than the crop: padded
        make(resize=(29, 41)),
        make(resize=(20, 41), interpolation="bilinear"),
        make((24, 24), 24, "lanczos"),
        make((25, 25), 31, "nearest"),
    ],
    ids=lambda preprocessing: preprocessing.key(),
)
@pytest.mark.parametrize("size", [(1, 1), (36, 36), (37, 53), (91, 20), (24, 32)])
def test_images_are_prepared_as_the_estimators_do(preprocessing, size):
    images = random_images(*size)
    prepared = [preprocessing.prepare(Image.fromarray(image)) for image in images]
    expected = preprocessing.to_input(torch.from_numpy(np.stack(prepared)))
    found = RawImages(preprocessing)(torch.from_numpy(images))
    assert found.shape == (3, *preprocessing.input_shape)
    assert torch.equal(found, expected)


def test_examples():
    images = RawImages(make())
    assert images.example(2).shape == (2, 24, 32, 3)
    example = images.example(4, (10, 12))
    assert example.shape == (4, 10, 12, 3) and example.dtype == torch.uint8
    assert torch.equal(example, images.example(4, (10, 12))) and example.max() > 250
    assert images.example(1, 9).shape == (1, 9, 9, 3)


def test_repr_shows_the_settings():
    assert "size=(24, 32)" in repr(RawImages(make()))


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (
            torch.zeros(1, 4, 4, 3, dtype=torch.int32),
            TypeError,
            "Images must be a tensor of dtype uint8, from 0 for black to 255, or of "
            "floats from 0 to 1. Got torch.int32; convert them first.",
        ),
        (
            torch.zeros(1, 3, 4, 4, dtype=torch.uint8),
            ValueError,
            "Images must be a tensor of shape (n, h, w, 3), the channels last, as "
            "arrays are. Got shape (1, 3, 4, 4); repeat the values of a grayscale "
            "image for the three channels.",
        ),
        (
            torch.zeros(4, 4, 3, dtype=torch.uint8),
            ValueError,
            "shape (n, h, w, 3), the channels last, as arrays are. Got shape (4, 4, 3)",
        ),
        (
            torch.zeros(2, 0, 4, 3, dtype=torch.uint8),
            ValueError,
            "Images must have at least one pixel. Got shape (2, 0, 4, 3).",
        ),
    ],
)
def test_raw_images_refuse_other_tensors(images, error, message):
    with pytest.raises(error, match=re.escape(message)):
        RawImages(make())(images)


@pytest.mark.parametrize("size", [(37, 53), (24, 32), (20, 91)])
def test_floats_have_gradients_and_are_not_rounded(size):
    images = torch.from_numpy(random_images(*size))
    raw = RawImages(make(resize=30))
    floats = (images / 255).requires_grad_()
    found = raw(floats)
    steps = (found - raw(images)).abs().amax() * 255 * min(STD)
    assert 0 < steps < 2 if size != (24, 32) else steps < 2
    found.sum().backward()
    assert floats.grad.isfinite().all() and (floats.grad != 0).any(dim=-1).sum() > 300
    with pytest.raises(ValueError, match="for black to 1. Got values from 0 to 2"):
        raw(torch.full((1, 4, 4, 3), 2.0) * torch.eye(4)[None, :, :, None])
