from dataclasses import replace

import pytest
from tokenizers import Regex, normalizers

from sktransfer.inputs import MODALITIES, TextPreprocessing
from sktransfer.inputs.texts import _preprocessing
from tests._transformers import make_tokenizer

TEXTS = MODALITIES["text"]
PREPROCESSING = TextPreprocessing(make_tokenizer().to_str(), 12)


def test_truncation_is_reported_once_with_how_much():
    long = [" ".join(["good"] * n) for n in (10, 11, 40)]
    message = (
        "2 of 4 texts have more than 12 tokens, .* 31 tokens .* longest text has 42"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        TEXTS.read(["good", *long], PREPROCESSING)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="1 of 2 texts"):  # also where one is missing
        TEXTS.read([None, long[2]], PREPROCESSING, on_error="warn")
    with pytest.warns(UserWarning, match="1 of 1 texts have .* 3 tokens of them"):
        TEXTS.read([("good " * 6, "bad " * 6)], PREPROCESSING)
    TEXTS.read(long, replace(PREPROCESSING, max_length=50))


def test_what_windows_do_not_hold_is_reported():
    windows = replace(PREPROCESSING, max_windows=3, overlap=4)  # 10 + 6 + 6 words
    text = " ".join(["good"] * 25)
    TEXTS.read([text[:109]], windows)
    message = "1 of 2 texts do not fit into 3 windows of 12 tokens .*: 3 tokens of them"
    with pytest.warns(UserWarning, match=message):
        TEXTS.read(["good", text], windows)


NFKC = normalizers.NFKC()
# A text of 11 bytes, and 12 words when it is normalized.
LIGATURES = "\ufdfa \ufdfa \ufdfa"


@pytest.mark.parametrize(
    ("normalizer", "text", "n_lost"),
    [
        (NFKC, LIGATURES, 1),
        (normalizers.Sequence([normalizers.Lowercase(), NFKC]), LIGATURES, 1),
        (normalizers.Replace("!", " good good good "), "!" * 6, 7),
        (normalizers.Sequence([normalizers.Replace(Regex("a"), " a a ")]), "a" * 6, 1),
        (None, LIGATURES, 0),
    ],
    ids=["nfkc", "sequence", "replace", "pattern", "none"],
)
def test_texts_that_a_normalizer_makes_longer(normalizer, text, n_lost):
    tokenizer = make_tokenizer()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    preprocessing = TextPreprocessing(tokenizer.to_str(), 13)
    assert preprocessing.count(text)[1] == n_lost
    if not n_lost:
        TEXTS.read([text], preprocessing)
        return
    with pytest.warns(UserWarning, match=f"1 of 1 texts .* {n_lost} tokens of them"):
        TEXTS.read([text], preprocessing)


def test_tokens_of_short_texts_are_not_counted(monkeypatch):
    def fail(*_):
        raise AssertionError

    monkeypatch.setattr(_preprocessing.TextPreprocessing, "count", fail)
    TEXTS.read(["good", "a"], PREPROCESSING)
    TEXTS.read([("a", "c")], PREPROCESSING)
