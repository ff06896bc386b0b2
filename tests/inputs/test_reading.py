"""The modality of X, samples of X, and what a preprocessing is known by."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import PIL
import pytest
import torch
import torchvision
from PIL import Image
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import Tags, TargetTags
from torch import nn
from torch.utils.data import TensorDataset

from sktransfer.inputs import (
    ImagePreprocessing,
    VectorPreprocessing,
    as_samples,
    is_describable_preprocessing,
    modality_of,
    preprocessing_key,
)

GIVEN = {
    "size": (8, 8),
    "resize": 8,
    "interpolation": "bilinear",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
}
BY = 2


class Darker(ImagePreprocessing):
    def prepare(self, image):
        return super().prepare(image) // BY


class Same(ImagePreprocessing):
    """A subclass that changes nothing is still another one."""


@dataclass(frozen=True)
class Scaled(VectorPreprocessing):
    by: float = 1.0

    def to_input(self, batch):
        return super().to_input(batch) * self.by


class Dynamic(ImagePreprocessing):
    def prepare(self, image):
        return eval("super().prepare(image)")


def test_key_of_the_packages_own_is_what_they_state():
    image, vector = ImagePreprocessing(**GIVEN), VectorPreprocessing(3)
    for own in (image, vector):
        assert preprocessing_key(own).startswith(own.key())
        assert is_describable_preprocessing(own)
    assert preprocessing_key(image) == preprocessing_key(ImagePreprocessing(**GIVEN))
    assert preprocessing_key(image) != preprocessing_key(image.with_size(16))


@pytest.mark.parametrize("library", [PIL, torchvision], ids=lambda m: m.__name__)
def test_key_changes_with_the_libraries_that_resize(library, monkeypatch):
    image = ImagePreprocessing(**GIVEN)
    before = preprocessing_key(image)
    monkeypatch.setattr(library, "__version__", "0.1")
    assert preprocessing_key(image) != before


def test_subclass_has_a_key_of_its_own(monkeypatch):
    kinds = [ImagePreprocessing, Darker, Same]
    before = [preprocessing_key(kind(**GIVEN)) for kind in kinds]
    assert len({*before}) == 3
    assert before[1] == preprocessing_key(Darker(**GIVEN))
    assert before[1] != preprocessing_key(Darker(**GIVEN).with_size(16))
    monkeypatch.setitem(globals(), "BY", 3)
    assert preprocessing_key(Darker(**GIVEN)) != before[1]
    keys = [preprocessing_key(Scaled(3, by=by)) for by in (1.0, 2.0)]
    assert len({*keys, preprocessing_key(VectorPreprocessing(3))}) == 3


def test_patched_preprocessing_has_another_key(monkeypatch):
    image = ImagePreprocessing(**GIVEN)
    before = preprocessing_key(image)
    object.__setattr__(image, "prepare", lambda image: None)
    assert preprocessing_key(image) != before
    with monkeypatch.context() as patch:
        patch.setattr(ImagePreprocessing, "prepare", lambda self, image: None)
        assert preprocessing_key(ImagePreprocessing(**GIVEN)) != before
    assert preprocessing_key(ImagePreprocessing(**GIVEN)) == before


def test_key_of_what_cannot_be_described_is_that_of_one_object():
    first, other = Dynamic(**GIVEN), Dynamic(**GIVEN)
    assert preprocessing_key(first) == preprocessing_key(first)
    assert preprocessing_key(first) != preprocessing_key(other)
    assert not is_describable_preprocessing(first)


def test_preprocessing_says_the_modality_whatever_x_is():
    images = modality_of(backbone=ImagePreprocessing(**GIVEN))
    vectors = modality_of(backbone=VectorPreprocessing(3))
    assert (images.noun, vectors.noun) == ("images", "vectors")
    holder = nn.Linear(1, 1)
    holder.kind = "image"  # of something else
    assert modality_of(backbone=holder) is vectors
    assert modality_of(["a.png"], VectorPreprocessing(3)) is vectors
    assert modality_of(np.eye(3), nn.Sequential(nn.Conv2d(3, 3, 1))) is images
    assert modality_of(np.eye(3), "resnet18") is images
    assert modality_of(np.eye(9), nn.Flatten(), {"image_shape": (3, 3)}) is images
    assert modality_of(np.eye(9), nn.Flatten(), {"image_shape": None}) is vectors
    assert modality_of() is vectors


def test_modality_that_x_looks_like():
    images = [
        ["a.png"],
        [(Image.new("L", (2, 2)), 1)],
        np.array(["a.png"]),
        np.array([["a.png"]], dtype=object),
        pd.Series(["a.png"], index=[7]),
        np.zeros((2, 4, 4)),
        [np.zeros((4, 4))],
        TensorDataset(torch.zeros(2, 4, 4)),
    ]
    vectors = [np.zeros((2, 4)), [[1, 2], [3, 4]], np.zeros((0, 4)), sparse.eye(3), 3]
    assert [modality_of(X).noun for X in images] == ["images"] * 8
    assert [modality_of(X).noun for X in vectors] == ["vectors"] * 5


def test_kind_that_nobody_registered():
    class Sounds:
        kind = "sound"

    message = r"one of \['image', 'vector'.*Got 'sound'; call `register_modality\('sou"
    with pytest.raises(ValueError, match=message):
        as_samples([1], Sounds())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (1, 2)}, r"`image_shape` must be None .* vectors. Got "),
        (
            {"value_range": (0, 1)},
            r"`value_range` must be 'auto' .* vectors. Got ",
        ),
    ],
)
def test_options_of_images_for_vectors(options, message):
    with pytest.raises(ValueError, match=message):
        as_samples(np.zeros((3, 2)), VectorPreprocessing(2), **options)


def test_tags_and_checks_of_images():
    images = modality_of(backbone="resnet18")
    for image_shape in (None, (8, 8)):
        tags = Tags(estimator_type=None, target_tags=TargetTags(required=False))
        images.set_tags(tags, {"image_shape": image_shape})
        assert tags.input_tags.three_d_array and tags.input_tags.string
        assert tags.input_tags.two_d_array == (image_shape is not None)
    X, y = images.validate_with_y(None, torch.zeros(2, 4, 4), torch.tensor([1, 0]))
    assert isinstance(X, np.ndarray) and y.tolist() == [1, 0]
    estimator = Estimator()
    rows = images.validate(estimator, np.zeros((2, 16)), reset=True)
    assert rows.shape == (2, 16) and estimator.n_features_in_ == 16
    with pytest.raises(ValueError, match="X has 15 features, but Estimator is expect"):
        images.validate(estimator, np.zeros((2, 15)), reset=False)


class Estimator(BaseEstimator):
    """An estimator without parameters."""


def test_checks_of_vectors():
    vectors, estimator = modality_of(), Estimator()
    X, y = vectors.validate_with_y(estimator, torch.eye(2), torch.tensor([1, 0]))
    assert X.dtype == np.float32 and y.tolist() == [1, 0]
    with pytest.raises(ValueError, match="contains NaN"):
        vectors.validate(estimator, [[np.nan, 0]], reset=False)


def test_augmentations():
    preprocessing = ImagePreprocessing(**GIVEN)
    images = modality_of(backbone=preprocessing)
    assert images.augmentation(len, preprocessing) is len
    view = images.augmentation("crop", preprocessing)(Image.new("L", (9, 9)))
    assert view.size == (8, 8)
    with pytest.raises(ValueError, match="`augment` must be None .*Got 'crop'"):
        modality_of().augmentation("crop", VectorPreprocessing(2))
