"""Keys of preprocessings, and how those of users are run."""

import wave
from dataclasses import dataclass
from importlib.metadata import version
from wave import Wave_read

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.activations import process_store
from sktransfer.backbones import load_backbone
from sktransfer.inputs import (
    ImagePreprocessing,
    MultichannelPreprocessing,
    VectorPreprocessing,
    _custom,
    as_run,
    as_samples,
    iter_batches,
    preprocessing_key,
)
from sktransfer.inputs._custom import OnCopies
from sktransfer.inputs._trial import Findings
from tests._preprocessings import GIVEN, Standardises, StandardisesRows

BY = 2


class Darker(ImagePreprocessing):
    def prepare(self, image):
        return super().prepare(image) // BY


class Same(ImagePreprocessing):
    """A subclass without any change."""


@dataclass(frozen=True)
class Scaled(VectorPreprocessing):
    by: float = 1.0

    def to_input(self, batch):
        return super().to_input(batch) * self.by


class Dynamic(ImagePreprocessing):
    def prepare(self, image):
        return super().prepare(eval("image"))


def test_key_of_the_packages_own_is_what_they_state():
    image, vector = ImagePreprocessing(**GIVEN), VectorPreprocessing(3)
    for own in (image, vector):
        key, is_stable = preprocessing_key(own)
        assert key.startswith(own.key()) and is_stable
    assert preprocessing_key(image) == preprocessing_key(ImagePreprocessing(**GIVEN))
    assert preprocessing_key(image) != preprocessing_key(image.with_size(16))


@pytest.mark.parametrize("library", ["pillow", "torchvision"])
def test_key_changes_with_the_libraries_that_resize(library, monkeypatch):
    image = ImagePreprocessing(**GIVEN)
    before = preprocessing_key(image)
    other = {library: "0.1"}
    monkeypatch.setattr(_custom, "version", lambda name: other.get(name, version(name)))
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
    assert not preprocessing_key(first)[1]


class Shrinking(ImagePreprocessing):
    def prepare(self, image):
        image.thumbnail((4, 4))
        return super().prepare(image)


class Doubling(MultichannelPreprocessing):
    def prepare(self, image):
        image *= 2
        return super().prepare(image)


class Shifting(MultichannelPreprocessing):
    def to_input(self, batch):
        batch += 1
        return super().to_input(batch)


@dataclass
class Recording:
    values: np.ndarray


class Scaling:
    """Works in place on samples of a modality of its own."""

    def prepare(self, sample):
        sample.values *= 2
        return sample.values


@pytest.fixture
def floats():
    return np.random.RandomState(0).rand(3, 8, 8, 2).astype(np.float32)


def network(channels):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))


def test_own_preprocessings_run_as_they_are(monkeypatch):
    image = ImagePreprocessing(**GIVEN)
    assert as_run(image) is image
    assert as_run(Same(**GIVEN)) is not image
    with monkeypatch.context() as patch:
        patch.setattr(ImagePreprocessing, "prepare", lambda self, image: None)
        assert as_run(image) is not image
    assert as_run(image) is image
    object.__setattr__(image, "prepare", lambda image: None)
    assert as_run(image) is not image


def test_pictures_of_the_user_stay_as_they_are_when_prepared_in_place():
    X = [Image.new("RGB", (16, 16), name) for name in ("red", "green", "blue")]
    before = [*map(np.array, X)]
    backbone = load_backbone(network(3), preprocessing=Shrinking(**GIVEN))
    PretrainedFeatureExtractor(backbone).fit(X).transform(X)
    np.testing.assert_array_equal([*map(np.array, X)], before)


@pytest.mark.parametrize("kind", [Doubling, Shifting])
def test_arrays_of_the_user_stay_as_they_are_when_prepared_in_place(kind, floats):
    preprocessing = kind(mean=(0, 0), std=(1, 1), size=(8, 8))
    backbone = load_backbone(network(2), preprocessing=preprocessing)
    extractor = PretrainedFeatureExtractor(backbone).fit(floats)
    before = floats.copy()
    process_store().clear()
    first = extractor.transform(floats)
    process_store().clear()
    np.testing.assert_array_equal(extractor.transform(floats), first)
    np.testing.assert_array_equal(floats, before)


def test_training_from_the_input_is_the_same_in_place_and_not(floats):
    class ShiftingACopy(MultichannelPreprocessing):
        def to_input(self, batch):
            return super().to_input(batch + 1)

    scores = []
    for kind in (Shifting, ShiftingACopy):
        preprocessing = kind(mean=(0, 0), std=(1, 1), size=(8, 8))
        backbone = load_backbone(network(2), preprocessing=preprocessing)
        model = FineTunedClassifier(
            backbone, freeze="none", max_epochs=2, random_state=0
        )
        scores.append(model.fit(floats, [0, 1, 0]).decision_function(floats))
    np.testing.assert_array_equal(*scores)


def test_samples_of_any_modality_are_copied_where_they_can_be():
    class Unique(Recording):
        def __deepcopy__(self, memo):
            raise TypeError("there can be only one")

    for kind, after in ((Recording, 1), (Unique, 2)):
        sample = kind(np.ones(2))
        assert OnCopies(Scaling()).prepare(sample).tolist() == [2, 2]
        assert sample.values.tolist() == [after, after]


def test_batches_hold_what_is_made_of_copies(floats):
    preprocessing = Doubling(mean=(0, 0), std=(1, 1), size=(8, 8))
    before = floats.copy()
    samples = as_samples(floats, preprocessing)
    for _ in range(2):
        ((_, batch),) = iter_batches(samples, preprocessing, 3)
        np.testing.assert_array_equal(batch, 2 * before)


class Cropping(ImagePreprocessing):
    def prepare(self, image):
        left = int(np.random.randint(8))  # noqa: NPY002
        return super().prepare(image.crop((left, left, left + 8, left + 8)))


class Shifted(ImagePreprocessing):
    path = None

    def to_input(self, batch):
        shift = Wave_read(self.path).getframerate()  # not shown by the code
        return super().to_input(batch) + shift


@pytest.fixture
def pictures():
    return np.random.RandomState(0).randint(0, 256, (6, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", [Cropping, Standardises])
def test_impure_preprocessing_gets_each_sample_alone_and_stores_nothing(kind, pictures):
    backbone = load_backbone(network(3), preprocessing=kind(**GIVEN))
    with pytest.warns(UserWarning, match="one at a time.*its preprocessing") as caught:
        extractor = PretrainedFeatureExtractor(backbone).fit(pictures)
    n_stored = len(process_store())
    together = extractor.transform(pictures)
    np.random.seed(7)  # noqa: NPY002
    alone = [extractor.transform(pictures[[i]])[0] for i in reversed(range(6))]
    np.testing.assert_array_equal(together, alone[::-1])
    assert len(caught) == 1 and len(process_store()) == n_stored
    assert preprocessing_key(kind(**GIVEN))[1] is False


def test_impure_preprocessing_of_vectors_gets_one_row_at_a_time():
    X = np.random.RandomState(0).rand(5, 3).astype(np.float32)
    preprocessing = StandardisesRows(3)
    batches = iter_batches(as_samples(X, preprocessing), preprocessing, 5)
    ((_, found),) = batches
    np.testing.assert_allclose(found, X - X.mean(axis=1, keepdims=True), atol=1e-6)


def test_impure_preprocessing_trains_from_the_input_on_samples_alone(pictures):
    backbone = load_backbone(network(3), preprocessing=Standardises(**GIVEN))
    model = FineTunedClassifier(backbone, freeze="none", max_epochs=1, random_state=0)
    with pytest.warns(UserWarning, match="other samples of the batch"):
        model.fit(pictures, [0, 1] * 3)
    alone = [model.decision_function(pictures[[i]])[0] for i in range(6)]
    np.testing.assert_array_equal(model.decision_function(pictures), alone)


def test_file_that_a_preprocessing_reads_is_in_its_key(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(Shifted, "path", str(tmp_path / "shift.wav"))
    keys, features = [], []
    for shift in (1, 2, 2):
        with wave.open(Shifted.path, "wb") as file:
            file.setparams((1, 1, shift, 0, "NONE", None))
        preprocessing = Shifted(**GIVEN)
        keys.append(preprocessing_key(preprocessing))
        backbone = load_backbone(network(3), preprocessing=preprocessing)
        features.append(PretrainedFeatureExtractor(backbone).fit_transform(pictures))
    assert keys[0] != keys[1] == keys[2]
    assert [is_known for _, is_known in keys] == [True] * 3
    assert not np.array_equal(*features[:2])
    np.testing.assert_array_equal(*features[1:])


def test_preprocessing_is_tried_again_only_if_it_has_changed(monkeypatch):
    tried = []
    monkeypatch.setattr(
        _custom, "try_out", lambda p: tried.append(p) or Findings(None, "")
    )
    darker = Darker(**GIVEN)
    for _ in range(2):
        as_run(darker)
        preprocessing_key(darker)
    assert tried == [darker]
    monkeypatch.setitem(globals(), "BY", 3)
    as_run(darker)
    assert len(tried) == 2
    as_run(ImagePreprocessing(**GIVEN))
    assert len(tried) == 2
