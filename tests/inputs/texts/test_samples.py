import numpy as np
import pandas as pd
import pytest

from sktransfer.inputs import UnreadableSampleError
from sktransfer.inputs.texts._samples import TextSamples, why_unreadable


def test_samples_are_known_by_their_content():
    samples = TextSamples(["one", "two", "one", ("on", "e"), ("o", "ne"), ""])
    digests = [samples.digest(i) for i in range(len(samples))]
    assert digests[0] == digests[2]
    assert len({*digests}) == 5
    assert samples.read(3) == (digests[3], ("on", "e"))
    assert not samples.can_change(0)
    assert samples.name(0) is None


def test_part_of_the_samples_keeps_positions_and_digests():
    samples = TextSamples(["one", None, "three"])
    samples.digests = [b"1", None, b"3"]
    part = samples.take(np.array([True, False, True])).take([1])
    assert (part[0], part.digests, part.describe(0)) == ("three", [b"3"], "sample 2")
    with pytest.raises(UnreadableSampleError, match="Got sample 1, .* missing \\(None"):
        samples.take([2, 1])[1]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (None, "missing (None); an empty text is ''"),
        (np.nan, "missing (nan)"),
        (pd.NA, "missing (<NA>)"),
        (3, "of type int, not str"),
        (b"one", "bytes; decode it"),
        (("one", None), "missing (None)"),
        (("one", "two", "three"), "it has 3 parts, and a pair of texts has 2"),
        (("one", 2), "of type int"),
        ("\ud800", "half of a surrogate pair"),
    ],
    ids=str,
)
def test_what_is_no_text(item, reason):
    assert reason in why_unreadable(item)


def test_texts_of_any_kind():
    for text in ("", "one\n", "naïve 漢字 🎬", "\0", np.str_("one"), ("a", "b")):
        assert why_unreadable(text) is None
