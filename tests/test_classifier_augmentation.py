from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV, cross_val_score

from sktransfer import Augmentation, config_context
from sktransfer.activations import _pass, forward_passes, process_store
from sktransfer.fitting import _trainer
from tests.test_classifier import ROWS, X_NEW, Y_NEW, X, Y, lite, small, tiny

NONE = {"augment": None}


@pytest.fixture
def keep_all(monkeypatch):
    """Keep whatever fits: the clock has no say."""

    def choose(measured, n_samples, budget):
        return [replace(cost, kept=budget > 0) for cost in measured]

    monkeypatch.setattr(_pass, "choose", choose)


@pytest.fixture
def mirrors(monkeypatch):
    """Train on mirror images of digits, which the network takes for other digits."""
    monkeypatch.setattr(_trainer, "why_not_mirrored", lambda *args: None)


@pytest.mark.parametrize(
    "settings",
    [
        {"augment": "crop"},
        {"augment": "crop", "augment__n_views": 2},
        {"augment__activations": ["shift", "drop"]},
    ],
    ids=["fresh", "views", "activations"],
)
def test_augmentation_changes_the_training_and_goes_by_random_state(settings):
    model = small(freeze=8, max_epochs=2, lr=1e-4, augment=None)
    plain = model.fit(X, Y).predict_proba(X_NEW[:9])
    model.set_params(**settings)
    first, again = (model.fit(X, Y).predict_proba(X_NEW[:9]) for _ in range(2))
    other = model.set_params(random_state=1).fit(X, Y).predict_proba(X_NEW[:9])
    np.testing.assert_array_equal(first, again)
    assert min(abs(first - plain).max(), abs(first - other).max()) > 1e-4
    assert model.score(X_NEW, Y_NEW) > 0.5


def test_fresh_augmentation_sends_every_epoch_through_the_prefix():
    def from_input():
        return sum(n for (_, start, _), n in counts.items() if start == "input")

    counts = forward_passes()
    process_store().clear()
    small(freeze=8, augment=None).fit(X, Y)  # the images as they are, for the probe
    counts.clear()
    small(freeze=8, max_epochs=3, augment="crop").fit(X, Y)
    assert from_input() == 3 * len(X)
    counts.clear()
    model = small(freeze=8, max_epochs=3, augment="crop", augment__n_views=2)
    cross_val_score(model, X, Y, cv=2, error_score="raise")
    assert from_input() == 2 * len(X)


def test_probe_of_several_views():
    plain = lite(freeze="all").fit(X, Y)
    fresh = lite(freeze="all", augment="crop").fit(X, Y)
    views = lite(freeze="all", augment="crop", augment__n_views=2).fit(X, Y)
    head, same, other = (m.module_.network.head for m in (plain, fresh, views))
    assert torch.equal(head.weight, same.weight)
    assert not torch.allclose(head.weight, other.weight, atol=1e-4)
    assert views.score(X_NEW, Y_NEW) > 0.8


# By default, each image or its mirror image


def proba(model):
    return model.fit(X, Y).predict_proba(X_NEW[:9])


@pytest.fixture
def passed():
    """Begin with an empty store, and count what goes through the first stage."""
    process_store().clear()
    counts = forward_passes()
    counts.clear()
    return lambda: sum(n for (_, start, _), n in counts.items() if start == "input")


@pytest.mark.usefixtures("mirrors")
def test_mirror_images_are_trained_on_and_stored(passed, keep_all):
    with config_context(memory_budget=0):
        without = proba(small(freeze=8, max_epochs=2))
    model = small(freeze=8, max_epochs=2)
    forward_passes().clear()
    cold = proba(model)
    assert passed() == 2 * len(X) + 9
    np.testing.assert_array_equal(cold, without)
    np.testing.assert_array_equal(proba(model), without)
    assert abs(proba(model.set_params(augment=None)) - without).max() > 1e-4
    assert passed() == 2 * len(X) + 9


def test_mirror_images_are_computed_once_for_all_fits(passed, keep_all):
    search = GridSearchCV(
        small(), {"freeze": [8, 7], "random_state": [0, 1]}, cv=2, error_score="raise"
    )
    search.fit(X, Y)
    small(freeze=8, random_state=None).fit(X, Y)
    assert passed() == 2 * len(X)


def test_probe_sees_the_images_themselves():
    first = small(freeze=8, lr=1e-9).fit(X, Y).module_.network.head.weight
    plain = small(freeze=8, lr=1e-9, augment=None).fit(X, Y).module_.network.head.weight
    torch.testing.assert_close(first, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("freeze", ["all", 8])
def test_nothing_is_drawn_where_only_a_head_is_trained_or_in_partial_fit(
    freeze, passed, keep_all
):
    model = small(freeze=freeze)
    if freeze == "all":
        model.fit(X, Y)
    else:
        model.partial_fit(X, Y).partial_fit(X[:9], Y[:9])
    assert passed() == len(X)


def test_vectors_have_no_mirror_images():
    auto, plain = (tiny(freeze=1, **kind).fit(ROWS, Y) for kind in ({}, NONE))
    np.testing.assert_array_equal(auto.predict_proba(ROWS), plain.predict_proba(ROWS))


@pytest.mark.usefixtures("mirrors")
def test_other_augmentations_come_on_top():
    model = small(freeze=8, max_epochs=2, augment__mixup=0.2)
    assert model.augment.views == "auto"
    plain = small(freeze=8, max_epochs=2, augment=Augmentation(None, mixup=0.2))
    assert abs(proba(model) - proba(plain)).max() > 1e-4
    assert small(augment=None, augment__mixup=0.2).augment.views is None


def test_scores_of_an_image_and_its_mirror_image_are_averaged():
    model = small(freeze=8).fit(X, Y)
    scores = model.decision_function(X_NEW), model.decision_function(X_NEW[..., ::-1])
    model.set_params(augment__tta=5)
    np.testing.assert_allclose(
        model.decision_function(X_NEW), np.mean(scores, axis=0), rtol=1e-3, atol=1e-3
    )


def test_vectors_have_no_views_to_average():
    model = tiny(freeze=1).fit(ROWS, Y).set_params(augment__tta=2)
    with pytest.raises(ValueError, match="`augment__tta` needs .* Got 'auto'"):
        model.predict(ROWS)


def test_views_of_vectors():
    with pytest.raises(ValueError, match="`augment` must be None for a backbone that"):
        tiny(freeze=1, augment="crop").fit(ROWS, Y)
    tiny(freeze=1, augment__activations=True).fit(ROWS, Y)


@pytest.mark.parametrize("freeze", ["all", 1])
def test_unknown_augmentation_of_activations(freeze):
    message = r"`augment__activations` must be a bool or hold some of .* Got 'blur'"
    with pytest.raises(ValueError, match=message):
        tiny(freeze=freeze, augment__activations=["flip", "blur"]).fit(ROWS, Y)
