import numpy as np
import pytest

from sktransfer.compute import seeded
from sktransfer.inputs import AugmentedSamples, Texts, WordDropout
from sktransfer.inputs.texts._samples import TextSamples

TEXT = "one two\nthree  four five six seven eight nine ten"


def views_of(augment, n=400, text=TEXT):
    return [
        *map(
            AugmentedSamples(TextSamples([text] * n), augment, range(n)).__getitem__,
            range(n),
        )
    ]


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_each_word_is_left_out_with_the_same_probability(share):
    words = TEXT.split()
    kept = [view.split() for view in views_of(WordDropout(share))]
    rates = [1 - np.mean([word in view for view in kept]) for word in words]
    np.testing.assert_allclose(rates, share, atol=0.08)
    assert all([w for w in words if w in view] == view for view in kept)  # in order


def test_white_space_stays_between_words_that_are_kept():
    for view in views_of(WordDropout(0.2), 50):
        assert ("three  four" in view) == ({"three", "four"} <= {*view.split()})
        assert view == view.rstrip()


def test_at_least_one_word_is_kept():
    views = views_of(WordDropout(0.99), 200)
    assert {len(view.split()) for view in views} == {1, 2}
    assert {*views_of(WordDropout(0.99), 20, "word")} == {"word"}
    assert {*views_of(WordDropout(0.99), 20, "  ")} == {"  "}
    assert {*views_of(WordDropout(0.99), 20, "")} == {""}


def test_both_texts_of_a_pair_lose_words():
    with seeded(0):
        first, second = WordDropout(0.5)((TEXT, TEXT))
    assert first != second and len(first) < len(TEXT) > len(second)


def test_a_view_depends_on_its_seed_alone():
    augment = WordDropout(0.3)
    samples = TextSamples([TEXT] * 6)
    views = AugmentedSamples(samples, augment, range(6))
    assert [*views.take([3, 1])] == [views[3], views[1]]
    assert views[3] != views[1]
    assert views.repeats()


def test_share_that_is_none():
    for share in (0, 1, -0.1, float("nan")):
        with pytest.raises(
            ValueError, match="`share` must be between 0 and 1, both ex"
        ):
            WordDropout(share)


def test_values_of_augment():
    augmentation = Texts().augmentation
    assert augmentation("word_dropout", None) == WordDropout(0.1)
    assert augmentation(WordDropout(0.3), None) == WordDropout(0.3)
    message = "`augment` must be None, 'auto', 'word_dropout' or a WordDropout.* Got {}"
    for augment in ("crop", str.lower):
        with pytest.raises(ValueError, match=message.format(repr(augment)[:5])):
            augmentation(augment, None)
