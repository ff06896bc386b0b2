"""The registry of modalities, and samples that cannot be read."""

import pickle
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch

from sktransfer.inputs import (
    Modality,
    UnreadableSampleError,
    as_samples,
    list_modalities,
    modality_of,
    register_modality,
)
from sktransfer.inputs._modality import MODALITIES


@pytest.mark.parametrize(
    ("name", "where"), [("a.png", "sample 3 ('a.png')"), (None, "sample 3")]
)
def test_error_says_which_and_why(name, where):
    error = UnreadableSampleError(3, name, "it is empty")
    assert isinstance(error, ValueError)
    assert (error.row, error.name, error.reason) == (3, name, "it is empty")
    assert error.where == where
    assert str(error) == (
        f"Samples must be readable. Got {where}, which is not; replace it or leave it "
        "out. The reason: it is empty"
    )
    assert "readable sounds. Got" in str(UnreadableSampleError(3, name, "", "sounds"))


def test_error_comes_back_from_other_processes():
    error = UnreadableSampleError(3, "a.png", "it is empty", "images")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) and copy.row == 3


class Texts(Modality):
    """A modality of sentences."""

    noun, options, n_views = "texts", (), 0

    def looks_like(self, X):
        return isinstance(X, list) and isinstance(X[0], str) and " " in X[0]

    def takes_network(self, module):
        return hasattr(module, "vocabulary")

    def set_tags(self, tags, options):
        tags.input_tags.string = True

    def validate(self, estimator, X, *, reset):
        return X

    def validate_with_y(self, estimator, X, y):
        return X, y

    def read(self, X, preprocessing, *, on_error="raise"):
        return X

    def augmentation(self, augment, preprocessing):
        return augment

    def default_preprocessing(self, module, n_features):
        return SimpleNamespace(kind="sentence")

    def raw_input(self, preprocessing):
        return torch.nn.Identity()


def test_registered_modality_is_asked_first():
    texts = Texts()
    with patch.dict(MODALITIES):
        register_modality("sentence", texts)
        network = torch.nn.Conv2d(1, 1, 1)
        assert modality_of(["a sentence"]) is texts
        assert (
            modality_of(["a.png"]).noun == modality_of(None, network).noun == "images"
        )
        network.vocabulary = ()
        assert modality_of(None, network) is texts
        samples = as_samples(["one text"], SimpleNamespace(kind="sentence"))
        assert samples == ["one text"]


def test_modality_that_lacks_parts():
    class Half:
        noun, options = "halves", ()

        def read(self, X, preprocessing, *, on_error="raise"):
            return X

    message = r"with all parts of Modality. .* lacks \['n_views', 'default_n_views', "
    with pytest.raises(TypeError, match=message):
        register_modality("half", Half())
    with pytest.raises(TypeError, match="Got the class .*; pass an instance"):
        register_modality("sentence", Texts)
    with pytest.raises(ValueError, match="those of the built-in modalities, .*'image'"):
        register_modality("image", Texts())
    assert "half" not in MODALITIES


def test_subclass_that_lacks_parts():
    class Half(Modality):
        def read(self, X, preprocessing, *, on_error="raise"):
            return X

    with pytest.raises(TypeError, match="abstract.*set_tags.*validate.*validate_w"):
        register_modality("half", Half())

    class Nameless(Half):
        set_tags = validate = validate_with_y = Texts.validate

    with pytest.raises(TypeError, match=r"Nameless.* lacks \['noun', 'options'\]"):
        register_modality("half", Nameless())
    Nameless.noun, Nameless.options = "halves", ()
    with patch.dict(MODALITIES):
        register_modality("half", Nameless())
        assert list_modalities()[-1] == "half"
