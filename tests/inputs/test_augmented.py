import numpy as np
import pytest
import torch

from sktransfer.compute import seeded
from sktransfer.inputs import AugmentedSamples
from sktransfer.inputs.texts._samples import TextSamples

TEXTS = ["a", "b", "c", "d", "e", "f"]


def number(text):
    return f"{text}{int(torch.randint(10**9, ()))}"


def views_of(augment, **known):
    return AugmentedSamples(TextSamples(TEXTS), augment, range(6), **known)


def test_a_view_depends_on_its_seed_alone():
    views = views_of(number)
    found = [*views]
    assert len({*found}) == 6 and [*views.take([3, 1])] == [found[3], found[1]]


def test_the_global_generator_is_unchanged():
    with seeded(0):
        before = torch.random.get_rng_state()
        views_of(number)[0]
        assert torch.equal(torch.random.get_rng_state(), before)


def test_take_takes_the_digests_along():
    assert views_of(str).take([4]).digests is None
    assert views_of(str, digests=[*"abcdef"]).take([2, 0]).digests == ["c", "a"]


def test_digest_is_that_of_the_view_only_of_the_sample_it_was_drawn_for():
    drawn_for = [TextSamples(TEXTS).digest(0), b"", *[b""] * 4]
    views = views_of(str.upper, digests=[*"abcdef"], drawn_for=drawn_for)
    assert views.read(0) == ("a", "A")
    found, view = views.read(1)
    assert found != "b" and view == "B"


def test_views_repeat_if_torch_draws_alone():
    rng = np.random.default_rng(0)
    assert views_of(number).repeats()
    assert not views_of(lambda text: f"{text}{rng.random()}").repeats()


def test_views_name_their_sample():
    assert views_of(str).take([4]).describe(0) == "sample 4"
    assert not views_of(str).can_change(0)


def test_augmentation_that_fails():
    def fail(text):
        raise KeyError("mine")

    message = r"`augment` failed on sample 2: KeyError: 'mine'"
    with pytest.raises(ValueError, match=message):
        views_of(fail)[2]
