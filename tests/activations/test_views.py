from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from sktransfer.activations import FixedViews, FreshViews, Target, load_activations
from sktransfer.activations._views import draw_views, name_of

pytestmark = pytest.mark.usefixtures("keeping_is_free")
FLIP = v2.RandomHorizontalFlip()
TARGET = Target("1")


@pytest.fixture
def plain(backbone, samples, runtime):
    """Activations of the images, and of the images mirrored."""

    def load(augment):
        views = draw_views(samples, augment, "", 0, 0)
        loaded, _ = load_activations(
            backbone, TARGET, views, store=None, runtime=runtime
        )
        return loaded[range(20)]

    return load(lambda image: image), load(v2.functional.horizontal_flip)


def fixed(backbone, samples, store, runtime, seed=0, n_views=3, augment=FLIP):
    return FixedViews(
        backbone, TARGET, samples, augment, n_views, seed, store=store, runtime=runtime
    )


def is_either(batch, plain, indices):
    """Return which rows are of the image (0) and of the mirrored image (1)."""
    return np.array(
        [
            [torch.allclose(row, p[i], rtol=1e-2, atol=1e-3) for p in plain].index(True)
            for row, i in zip(batch, indices, strict=True)
        ]
    )


def test_fixed_views_are_computed_once_and_stored(
    backbone, samples, store, runtime, passes
):
    fixed(backbone, samples, store, runtime)
    assert sum(n for (_, start, _), n in passes.items() if start == "input") == 60
    fixed(backbone, samples.take(range(5)), store, runtime, n_views=2)
    assert sum(n for (_, start, _), n in passes.items() if start == "input") == 60
    fixed(backbone, samples, store, runtime, seed=1, n_views=1)
    assert sum(n for (_, start, _), n in passes.items() if start == "input") == 80


def test_each_batch_takes_one_of_the_fixed_views(
    backbone, samples, store, runtime, plain
):
    views = fixed(backbone, samples, store, runtime)
    assert len(views) == 20 and [len(v) for v in views.views] == [20] * 3
    possible = [is_either(view[range(20)], plain, range(20)) for view in views.views]
    for indices in ([7, 2, 2, 19], list(range(20))):
        seen = is_either(views[indices], plain, indices)
        for mirrored, i in zip(seen, indices, strict=True):
            assert mirrored in {view[i] for view in possible}
    assert 10 < np.sum(possible) < 50


def test_fresh_views_are_new_each_time(backbone, samples, runtime, passes, plain):
    views = FreshViews(backbone, TARGET, samples, FLIP, 0, runtime=runtime)
    indices = [3] * 30
    seen = is_either(views[indices], plain, indices)
    assert len(views) == 20 and len({*seen}) == 1  # one draw, one sample
    drawn = [is_either(views[[3]], plain, [3])[0] for _ in range(20)]
    assert 4 < sum(drawn) < 16
    assert sum(n for (_, start, _), n in passes.items() if start == "input") >= 50


def test_fresh_views_show_no_bar_per_batch(backbone, samples, runtime, capsys):
    loud = replace(runtime, verbose=1)
    FreshViews(backbone, TARGET, samples, FLIP, 0, runtime=loud)[[0, 1]]
    assert capsys.readouterr().err == ""


def test_fresh_views_depend_on_the_seed(backbone, samples, runtime):
    crop = v2.RandomResizedCrop((32, 32))
    first, again, other = (
        FreshViews(backbone, TARGET, samples, crop, seed, runtime=runtime)[[0, 1]]
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_fixed_views_continue_from_a_state(backbone, samples, runtime):
    crop = v2.RandomResizedCrop((32, 32))
    views = fixed(backbone, samples, None, runtime, augment=crop)
    again = fixed(backbone, samples, None, runtime, augment=crop)
    views[range(20)]
    state = views.state_dict()
    looks = [views[range(20)] for _ in range(3)]
    assert not torch.equal(looks[0], looks[1])
    assert not torch.equal(again[range(20)], looks[0])
    again.load_state_dict(state)
    for look in looks:
        assert torch.equal(again[range(20)], look)


def test_fresh_views_continue_from_a_state(backbone, samples, runtime):
    crop = v2.RandomResizedCrop((32, 32))
    views, again = (
        FreshViews(backbone, TARGET, samples, crop, 0, runtime=runtime)
        for _ in range(2)
    )
    views[[1, 2]], views[[3]]
    state = views.state_dict()
    looks = [views[[4, 5]] for _ in range(2)]
    assert not torch.equal(looks[0], looks[1])
    again.load_state_dict(state)
    for look in looks:
        assert torch.equal(again[[4, 5]], look)


def test_states_of_views_are_read_with_weights_only(
    backbone, samples, runtime, tmp_path
):
    views = [
        fixed(backbone, samples, None, runtime),
        FreshViews(backbone, TARGET, samples, FLIP, 0, runtime=runtime),
    ]
    for number, kind in enumerate(views):
        kind[[0, 1]]
        torch.save(kind.state_dict(), tmp_path / f"{number}")
        state = torch.load(tmp_path / f"{number}", weights_only=True)
        assert state == kind.state_dict()


def test_fresh_views_split_into_batches_in_order(backbone, samples, runtime, plain):
    views = FreshViews(backbone, TARGET, samples, FLIP, 0, runtime=runtime)
    batches = list(views.split(8))
    assert [len(batch) for batch in batches] == [8, 8, 4]
    mirrored = is_either(torch.cat(batches), plain, range(20))
    assert 2 < mirrored.sum() < 18
    again = torch.cat(list(views.split(8)))
    assert not torch.equal(again, torch.cat(batches))


def test_name_depends_on_the_attributes_of_an_augmentation():
    assert name_of(FLIP) == name_of(v2.RandomHorizontalFlip())
    assert name_of(FLIP) != name_of(v2.RandomHorizontalFlip(p=0.1))
    # This one holds a tensor, and so does what holds it.
    assert name_of(v2.RandomResizedCrop(8)) == name_of(v2.RandomResizedCrop(8))
    composed = [v2.Compose([FLIP, v2.RandomResizedCrop(n)]) for n in (8, 8, 9)]
    first, same, other = map(name_of, composed)
    assert first == same != other


def darken(image, by=2):
    return image.point(lambda value: value // by)


class Darken:
    """Has state and code of its own."""

    def __init__(self, by):
        self.by = by

    def __call__(self, image):
        return darken(image, self.by)


def test_name_depends_on_the_code_of_an_augmentation(monkeypatch):
    def names():
        chosen = [darken, Darken(2), Darken(3), v2.Compose([FLIP, darken])]
        return [name_of(augment) for augment in chosen]

    before = names()
    assert before == names() and len({*before}) == 4
    monkeypatch.setattr(darken, "__defaults__", (3,))
    assert all(now != name for now, name in zip(names(), before, strict=True))


def test_name_of_an_undescribable_augmentation_is_unique():
    def make():
        return lambda image: eval("image")

    augment = make()
    assert name_of(augment) != name_of(augment)
    listed = v2.Compose([FLIP, augment])
    assert name_of(listed) != name_of(listed)


def test_views_that_their_seed_does_not_fix(
    backbone, samples, store, runtime, passes, monkeypatch
):
    rng = np.random.default_rng(0)

    class Noise(v2.Transform):
        def forward(self, image):
            return image.rotate(int(rng.integers(1, 90)))

    monkeypatch.setattr("sktransfer.activations._views.name_of", lambda augment: "name")
    text = "^`augment` returns another view when it is called again with the same se"
    for n_computed in (20, 40):  # what the first fit stored is not that of the second
        with pytest.warns(UserWarning, match=text):
            fixed(backbone, samples, store, runtime, n_views=1, augment=Noise())
        read = [n for (_, start, _), n in passes.items() if start == "input"]
        assert sum(read) == n_computed


def test_part_of_a_batch_has_the_views_of_the_whole(backbone, samples, store, runtime):
    def views():
        yield fixed(backbone, samples, store, runtime)
        yield FreshViews(backbone, TARGET, samples, FLIP, 0, runtime=runtime)

    indices = torch.arange(10, 18)
    for whole, part in zip(views(), views(), strict=True):
        for _ in range(2):
            seen = part.share(indices, slice(3, 5))
            torch.testing.assert_close(seen, whole[indices][3:5])
