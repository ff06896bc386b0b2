from dataclasses import dataclass

import PIL

from sktransfer.inputs import (
    ImagePreprocessing,
    VectorPreprocessing,
    is_describable_preprocessing,
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


def test_key_changes_with_the_version_of_pillow(monkeypatch):
    image = ImagePreprocessing(**GIVEN)
    before = preprocessing_key(image)
    monkeypatch.setattr(PIL, "__version__", "0.1")
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
