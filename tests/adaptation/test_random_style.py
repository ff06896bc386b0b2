import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from sktransfer.adaptation import RandomStyle
from sktransfer.adaptation._random_style import _Noise
from sktransfer.compute import seeded
from sktransfer.utils import describe
from tests.adaptation._photographs import CROPS

IMAGE = Image.fromarray(CROPS[0])


def view(style, seed, image=IMAGE):
    with seeded(seed):
        return np.asarray(style(image))


def test_views_follow_the_seed_and_most_differ():
    style = RandomStyle()
    views = [view(style, seed) for seed in range(12)]
    for seed, found in enumerate(views):
        assert found.shape == CROPS[0].shape and found.dtype == np.uint8
        np.testing.assert_array_equal(
            found, view(pickle.loads(pickle.dumps(style)), seed)
        )
    changed = [(found != CROPS[0]).any() for found in views]
    assert 6 <= sum(changed) <= 11
    means = [
        found.mean() for found, is_new in zip(views, changed, strict=True) if is_new
    ]
    assert np.ptp(means) > 20
    assert describe(style).is_complete and style.for_source_only


def test_without_a_change_images_only_become_rgb():
    style = RandomStyle(p=0)
    np.testing.assert_array_equal(view(style, 0), CROPS[0])
    grey = view(style, 0, IMAGE.convert("L"))
    assert grey.shape == CROPS[0].shape and np.ptp(grey, axis=2).max() == 0


@pytest.mark.parametrize("as_tensor", [False, True], ids=["PIL", "tensor"])
def test_noise_is_as_strong_as_drawn(as_tensor):
    image = v2.functional.to_image(IMAGE) if as_tensor else IMAGE
    with seeded(0):
        found = _Noise().transform(image, {"scale": 10.0})
    assert isinstance(found, torch.Tensor) == as_tensor
    pixels = v2.functional.to_image(found).float() - v2.functional.to_image(IMAGE)
    middle = (CROPS[0] > 40) & (CROPS[0] < 215)
    noise = pixels.permute(1, 2, 0)[torch.from_numpy(middle)]
    assert float(noise.std()) == pytest.approx(10, rel=0.05)
