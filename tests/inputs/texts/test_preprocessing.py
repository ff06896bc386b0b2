import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from sktransfer.inputs import TextPreprocessing
from sktransfer.inputs._custom import preprocessing_key
from sktransfer.inputs.texts._preprocessing import padded_length
from tests._transformers import SPECIAL, WORDS, make_tokenizer

CONTENT = make_tokenizer().to_str()


def preprocessing(**settings):
    return TextPreprocessing(CONTENT, **{"max_length": 12, **settings})


def words_of(prepared):
    """Return the tokens of a prepared text."""
    names = [*SPECIAL, *WORDS]
    return " ".join(names[i] for i in prepared["ids"][prepared["mask"]])


def test_text_becomes_padded_ids_and_mask():
    prepared = preprocessing().prepare("the film was good .")
    assert words_of(prepared) == "[CLS] the film was good . [SEP]"
    assert prepared["ids"].tolist()[7:] == [0]
    assert prepared["mask"].tolist() == [True] * 7 + [False]
    assert {name: part.dtype for name, part in prepared.items()} == {
        "ids": np.int64,
        "mask": bool,
    }


def test_long_text_keeps_its_special_tokens():
    text = " ".join(["good"] * 40)
    assert words_of(preprocessing().prepare(text)).split() == [
        "[CLS]",
        *["good"] * 10,
        "[SEP]",
    ]
    assert preprocessing().count(text) == (42, 30)
    assert preprocessing(max_length=20).prepare(text)["mask"].sum() == 20


@pytest.mark.parametrize(
    ("n_first", "n_second", "kept"),
    [(2, 3, (2, 3)), (2, 40, (2, 7)), (40, 2, (7, 2)), (40, 40, (4, 5))],
)
def test_of_a_pair_the_longer_text_is_shortened(n_first, n_second, kept):
    pair = " ".join(["good"] * n_first), " ".join(["bad"] * n_second)
    prepared = preprocessing(has_types=True).prepare(pair)
    words = words_of(prepared).split()
    assert (words.count("good"), words.count("bad")) == kept
    assert words.count("[SEP]") == 2
    n_types = prepared["types"].sum()
    assert n_types == kept[1] + 1
    n_words = n_first + n_second
    assert preprocessing().count(pair) == (n_words + 3, n_words - sum(kept))


def test_prefix_stands_in_front_of_each_text():
    assert words_of(preprocessing(prefix="the ").prepare("film")) == (
        "[CLS] the film [SEP]"
    )


def test_special_tokens_are_those_that_the_tokenizer_added():
    made = preprocessing(prefix="the ")
    assert made.tokens("film the") == ["[CLS]", "the", "film", "the", "[SEP]"]
    assert np.flatnonzero(made.is_special("film the")).tolist() == [0, 4]
    assert np.flatnonzero(made.is_special(("film", "good"))).tolist() == [0, 3, 5]
    assert np.flatnonzero(made.is_special("good " * 40)).tolist() == [0, 11]


def test_text_without_tokens_is_one_token():
    content = make_tokenizer()
    content.post_processor = None
    prepared = TextPreprocessing(content.to_str(), 12, pad_id=1).prepare("")
    assert prepared["ids"].tolist() == [1] * 4
    assert prepared["mask"].tolist() == [True] + [False] * 3
    made = TextPreprocessing(content.to_str(), 12)
    assert (made.tokens(""), made.is_special("")) == ([""], [False])


def test_padded_lengths():
    lengths = [padded_length(n) for n in range(1, 600)]
    assert all(length > n for n, length in enumerate(lengths, 1))
    assert lengths == sorted(lengths)
    known = {1: 4, 3: 4, 4: 8, 31: 32, 32: 40, 63: 64, 64: 80, 255: 256, 256: 288}
    assert {n: padded_length(n) for n in known} == known


def test_key_covers_all_settings():
    other = make_tokenizer()
    other.add_tokens(["word"])
    keys = {
        preprocessing().key(),
        preprocessing(max_length=13).key(),
        preprocessing(pad_id=1).key(),
        preprocessing(has_types=True).key(),
        preprocessing(prefix="a").key(),
        preprocessing(max_windows=2).key(),
        preprocessing(max_windows=2, overlap=1).key(),
        TextPreprocessing(other.to_str(), 12).key(),
    }
    assert len(keys) == 8
    copied = pickle.loads(pickle.dumps(preprocessing()))
    assert copied == preprocessing() and copied.key() in keys
    assert preprocessing_key(copied) == preprocessing_key(preprocessing())
    assert preprocessing_key(copied)[1]
    assert "vocab" not in repr(copied)


def test_example_has_texts_of_several_lengths():
    example = preprocessing(has_types=True).example(5)
    assert {name: part.shape for name, part in example.items()} == dict.fromkeys(
        ("ids", "mask", "types"), torch.Size([5, 16])
    )
    assert len({*example["mask"].sum(1).tolist()}) == 5
    assert not example["ids"][~example["mask"]].any()
    assert preprocessing().input_shape == {"ids": (16,), "mask": (16,)}


def test_sizes_that_do_not_apply():
    assert preprocessing().with_size(None) == preprocessing()
    with pytest.raises(ValueError, match="`image_size` must be None .* texts. Got 32"):
        preprocessing().with_size(32)
    with pytest.raises(ValueError, match="`max_length` must be at least 4, .* Got 3"):
        preprocessing(max_length=3)


def test_longest_texts_fit_the_positions_of_the_network():
    text = " ".join(["good"] * 99)
    longest = preprocessing(max_length=63, n_positions=64)
    assert longest.prepare(text)["mask"].sum() == 63
    assert longest.prepare(text)["ids"].shape == (64,)
    assert longest.key() != preprocessing(max_length=63).key()
    with pytest.raises(ValueError, match="at most 63, .* 64 positions, .* Got 64"):
        replace(longest, max_length=64)


WINDOWS = preprocessing(max_length=7, max_windows=3, overlap=2)
TEXT = "one two three quick brown fox jumps over lazy dog while others"


def test_long_text_is_read_in_windows_that_overlap():
    prepared = WINDOWS.prepare(TEXT)
    windows = [words_of({k: v[i] for k, v in prepared.items()}) for i in range(3)]
    assert windows == [
        "[CLS] one two three quick brown [SEP]",
        "[CLS] quick brown fox jumps over [SEP]",
        "[CLS] jumps over lazy dog while [SEP]",
    ]
    assert prepared["ids"].shape == prepared["mask"].shape == (3, 8)
    assert WINDOWS.count(TEXT) == (14, 1)
    assert WINDOWS.count(TEXT.removesuffix(" others")) == (13, 0)


def test_last_window_is_as_long_as_what_remains():
    prepared = preprocessing(max_length=7, max_windows=9).prepare(TEXT + " good")
    assert prepared["mask"].sum(1).tolist() == [7, 7, 5]
    assert not prepared["ids"][~prepared["mask"]].any()
    short = WINDOWS.prepare("good")
    assert short["ids"].shape == (1, 4)


def test_of_a_pair_windows_slide_over_the_longer_text():
    pairs = preprocessing(max_length=9, max_windows=2, has_types=True)
    first = pairs.prepare((TEXT, "good bad"))
    window = {name: part[1] for name, part in first.items()}
    assert words_of(window) == "[CLS] brown fox jumps over [SEP] good bad [SEP]"
    assert window["types"].sum() == 3
    second = pairs.prepare(("good bad", TEXT))
    window = {name: part[1] for name, part in second.items()}
    assert words_of(window) == "[CLS] good bad [SEP] brown fox jumps over [SEP]"
    assert pairs.count(("good bad", TEXT)) == (17, 4)
    assert pairs.count((TEXT, TEXT)) == (27, 18 - 3)


def test_example_has_windows():
    example = WINDOWS.example(5)
    assert example["ids"].shape == example["mask"].shape == (5, 2, 16)
    assert WINDOWS.input_shape == {"ids": (2, 16), "mask": (2, 16)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_windows": 0}, "`max_windows` must be at least 1. Got 0"),
        ({"max_windows": 2.5}, "`max_windows` must be an int. Got 2.5"),
        ({"max_length": "64"}, "`max_length` must be an int. Got '64'"),
        ({"overlap": 3}, "`overlap` must be between 0 and 0, as there is 1 window. Go"),
        (
            {"overlap": 10, "max_windows": 2},
            "`overlap` must be between 0 and 9, as a window has room for 10 tokens. Go",
        ),
    ],
    ids=str,
)
def test_windows_that_there_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        preprocessing(**settings)
