"""The modality of images."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sktransfer.inputs import ImagePreprocessing, as_samples
from sktransfer.inputs.images._images import Images

PREPROCESSING = ImagePreprocessing((8, 8))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")
def test_networks_with_a_convolution_take_images():
    modality = Images()
    assert modality.takes_network(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten()))
    assert modality.takes_network(nn.Sequential(nn.LazyConv2d(2, 1)))
    assert modality.takes_network(torch.jit.script(nn.Sequential(nn.Conv2d(3, 2, 1))))
    assert not modality.takes_network(nn.Sequential(nn.Conv1d(3, 2, 1)))


def test_default_preprocessing_is_a_guess_that_is_told():
    with pytest.warns(UserWarning, match="Linear does not say which preprocessing"):
        guess = Images().default_preprocessing(nn.Linear(2, 2), None)
    assert guess == ImagePreprocessing(resize=256)


def test_options_of_reading_are_checked():
    X = np.zeros((2, 9))
    with pytest.raises(ValueError, match="`image_shape` must be"):
        as_samples(X, PREPROCESSING, image_shape=9)
    with pytest.raises(ValueError, match="`value_range` must be"):
        as_samples(X, PREPROCESSING, image_shape=(3, 3), value_range=1)
    samples = as_samples(X, PREPROCESSING, image_shape=(3, 3), value_range=(-1, 1))
    assert samples[1].getpixel((0, 0)) == (128, 128, 128)


def test_preprocessing_of_another_class_may_know_nothing_of_decoding():
    class Plain:
        kind = "image"

    samples = as_samples([Image.new("RGB", (4, 4), "red")], Plain())
    assert samples[0].size == (4, 4)
