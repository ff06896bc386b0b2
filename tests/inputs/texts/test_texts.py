import numpy as np
import pandas as pd
import pyarrow
import pytest
from sklearn.base import BaseEstimator
from sklearn.utils import get_tags

from sktransfer.inputs import (
    MODALITIES,
    TextPreprocessing,
    UnreadableSampleError,
)
from sktransfer.inputs.texts._samples import TextSamples
from tests._transformers import make_tokenizer

TEXTS = MODALITIES["text"]
PREPROCESSING = TextPreprocessing(make_tokenizer().to_str(), 12)
WORDS = ["good", "", "bad film"]


def read(X, **options):
    samples = TEXTS.read(X, PREPROCESSING, **options)
    return [samples[i] for i in range(len(samples))]


@pytest.mark.parametrize(
    "X",
    [
        WORDS,
        tuple(WORDS),
        np.array(WORDS),
        np.array(WORDS, dtype=object),
        np.array(WORDS)[:, None],
        pd.Series(WORDS, index=[5, 3, 1]),
        pd.Series(WORDS, dtype="string"),
        pd.Series(WORDS, dtype="category"),
        pd.DataFrame({"text": WORDS}),
        pyarrow.chunked_array([WORDS[:1], WORDS[1:]]),
    ],
    ids=lambda X: type(X).__name__,
)
def test_containers_of_texts(X):
    found = read(X)
    assert found == WORDS
    assert all(isinstance(text, str) for text in found)


@pytest.mark.parametrize("make", [list, np.array, pd.DataFrame])
def test_containers_of_pairs(make):
    pairs = [("a", "b"), ("c", "d")]
    assert read(make(pairs)) == pairs


def test_samples_are_returned_as_they_are():
    samples = TextSamples(WORDS)
    assert TEXTS.read(samples, PREPROCESSING) is samples


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("one text", TypeError, "X must be a list, .* Got 'one text'; .* pass \\[text"),
        (3, TypeError, "X must be a list, .* Got 3"),
        ({"a"}, TypeError, "order is that of y. Got a set, which has none"),
        ({"a": "b"}, TypeError, "order is that of y. Got a dict, which has none"),
        ([], ValueError, "X must have at least 1 sample. Got 0"),
        (np.array([["a"] * 3]), ValueError, "one column of texts, or two .* Got 3 col"),
        (["a", None], UnreadableSampleError, "Got sample 1, .* missing \\(None\\)"),
        (["a", np.nan], UnreadableSampleError, "readable texts. Got sample 1"),
        (pd.Series(["a", None]), UnreadableSampleError, "Got sample 1"),
        (["a", 3], UnreadableSampleError, "Got sample 1, .* of type int, not str"),
        ([["a", None]], UnreadableSampleError, "Got sample 0"),
        (np.zeros((3, 1)), UnreadableSampleError, "Got sample 0, .* type float"),
        (["a", ("b", "c")], ValueError, "texts, or pairs .* Got a pair in sample 1"),
        ([("b", "c"), "a"], ValueError, "texts, or pairs .* Got a text in sample 1"),
    ],
    ids=str,
)
def test_what_is_no_list_of_texts(X, error, message):
    with pytest.raises(error, match=message):
        TEXTS.read(X, PREPROCESSING)


def test_samples_that_cannot_be_read_can_wait():
    samples = TEXTS.read(["a", None], PREPROCESSING, on_error="warn")
    assert samples[0] == "a"
    with pytest.raises(UnreadableSampleError, match="Got sample 1"):
        samples[1]


def test_what_texts_are_to_sklearn():
    class Estimator(BaseEstimator):
        pass

    tags = get_tags(Estimator())
    TEXTS.set_tags(tags, {})
    assert tags.input_tags.string and not tags.input_tags.two_d_array
    frame = pd.DataFrame({"text": ["a", "b"]})
    estimator = Estimator()
    assert TEXTS.validate(estimator, frame, reset=True) is frame
    assert estimator.feature_names_in_.tolist() == ["text"]
    with pytest.raises(ValueError, match="feature names should match"):
        TEXTS.validate(estimator, frame.rename(columns=str.upper), reset=False)
    assert TEXTS.validate_with_y(estimator, ["a"], [1]) == (["a"], [1])
    assert not TEXTS.looks_like(["a"])


def test_what_does_not_apply_to_texts():
    with pytest.raises(ValueError, match="`augment` must be .* texts. Got 'crop'"):
        TEXTS.augmentation("crop", PREPROCESSING)


def test_exported_modules_begin_with_token_ids():
    raw = TEXTS.raw_input(PREPROCESSING)
    ids, mask = raw.example(3)
    assert ids.shape == mask.shape == (3, 16)
    expected = PREPROCESSING.example(3)
    for state in (raw(ids), raw(ids, mask)):
        assert all(state[name].equal(expected[name]) for name in ("ids", "mask"))
    lengths = [raw.example(n)[0].shape[1] for n in (1, 2, 3)]
    assert lengths == [14, 12, 16]
    with pytest.raises(ValueError, match="`image_size` must be None"):
        raw.example(3, 32)
