"""The trial of users' preprocessings: impurities, and the hash of model inputs."""

import itertools
import random
import re

import numpy as np
import pytest
import torch
from PIL import Image

from sktransfer.backbones import load_backbone
from sktransfer.inputs import (
    AudioPreprocessing,
    ImagePreprocessing,
    MultichannelPreprocessing,
    TextPreprocessing,
    VectorPreprocessing,
    try_preprocessing,
)
from sktransfer.inputs._trial import model_inputs, try_out
from tests._preprocessings import Standardises, StandardisesRows


class Plain(ImagePreprocessing):
    pass


class DrawsInPrepare(ImagePreprocessing):
    def prepare(self, image):
        return super().prepare(image.rotate(random.random() * 360))


class DrawsInBatch(ImagePreprocessing):
    def to_input(self, batch):
        x = super().to_input(batch)
        return x + torch.randn(x.shape) * np.random.rand()  # noqa: NPY002


class DrawsFromItsOwn(ImagePreprocessing):
    def prepare(self, image):
        shift = np.random.default_rng().integers(1, 9)
        return super().prepare(image) // 2 + np.uint8(shift)


class Counts(ImagePreprocessing):
    def prepare(self, image):
        object.__setattr__(self, "n", getattr(self, "n", 0) + 1)
        return super().prepare(image)


class Continues(ImagePreprocessing):
    steps = itertools.count()

    def prepare(self, image):
        return super().prepare(image) // (2 + next(self.steps) // 5)


class KeepsFirst(ImagePreprocessing):
    def to_input(self, batch):
        if "first" not in vars(self):
            object.__setattr__(self, "first", super().to_input(batch[:1]))
        return super().to_input(batch) - self.first


class KeepsWhatIsCostly(ImagePreprocessing):
    def to_input(self, batch):
        if "scale" not in vars(self):
            object.__setattr__(self, "scale", 2.0)
        return super().to_input(batch) * self.scale


class Fails(ImagePreprocessing):
    def prepare(self, image):
        raise KeyError("no such band")


IMPURE = {
    DrawsInPrepare: "its preprocessing draws from the generator of random",
    DrawsInBatch: "its preprocessing draws from the generator of torch and of numpy",
    DrawsFromItsOwn: "makes something else of the same sample a second time",
    Standardises: "depends on the other samples of the batch",
    Counts: "its preprocessing changes its attributes",
    Continues: "makes something else of the same sample a second time",
    KeepsFirst: "depends on those before it",
    Fails: r"cannot be tried on made-up images \(KeyError: 'no such band'\)",
}


@pytest.mark.parametrize("kind", IMPURE, ids=lambda kind: kind.__name__)
def test_impure_preprocessing_is_found(kind):
    preprocessing = kind(size=(16, 16))
    before = {**vars(preprocessing)}
    found = try_preprocessing(preprocessing).impurity
    assert found is not None
    assert re.search(IMPURE[kind], found)
    assert vars(preprocessing) == before


def test_block_of_vectors_that_share_a_mean_is_found():
    found = try_preprocessing(StandardisesRows(3)).impurity
    assert found.endswith("depends on the other samples of the batch")


@pytest.mark.parametrize("kind", [Plain, KeepsWhatIsCostly])
def test_pure_preprocessing_has_a_hash_of_its_own(kind):
    found = try_preprocessing(kind(size=(16, 16)))
    assert found.impurity is None
    assert found == try_preprocessing(kind(size=(16, 16)))
    assert found.digest != try_preprocessing(kind(size=(16, 18))).digest
    assert try_preprocessing(ImagePreprocessing()).digest == ""  # never tried


def test_draws_do_not_move_the_users_generators():
    before = random.getstate(), torch.get_rng_state()
    try_out(DrawsInPrepare(size=(16, 16)))
    try_out(DrawsInBatch(size=(16, 16)))
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize(
    "own",
    [
        ImagePreprocessing(size=(16, 24), resize=40),
        MultichannelPreprocessing(mean=(1, 2), std=(3, 4), size=(6, 5)),
        VectorPreprocessing(7),
    ],
    ids=lambda own: own.kind,
)
def test_own_preprocessings_are_pure_on_the_samples_of_their_modality(own):
    found = try_out(own)
    assert found.impurity is None and found.digest


@pytest.mark.parametrize(
    ("name", "kind"),
    [("minilm", TextPreprocessing), ("speech_embedding", AudioPreprocessing)],
)
def test_own_preprocessing_of_shipped_weights_is_pure(name, kind):
    own = load_backbone(name).preprocessing
    assert isinstance(own, kind)
    found = try_out(own)
    assert found.impurity is None and found.digest


def test_model_inputs_leave_samples_as_they_are():
    class Shrinks(ImagePreprocessing):
        def prepare(self, image):
            image.thumbnail((2, 2))
            return super().prepare(image)

    image = Image.new("RGB", (8, 8), "red")
    (inputs,) = model_inputs(Shrinks(size=(4, 4)), [image])
    assert inputs.shape == (1, 3, 4, 4) and image.size == (8, 8)
