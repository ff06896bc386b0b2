import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_val_score

from sktransfer.activations import forward_passes, process_store
from tests.test_classifier import ROWS, X_NEW, Y_NEW, X, Y, lite, small, tiny


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
    model = small(freeze=8, max_epochs=2, lr=1e-4)
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
    small(freeze=8).fit(X, Y)  # the images as they are, for the probe
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


def test_views_of_vectors():
    with pytest.raises(ValueError, match="`augment` must be None for a backbone that"):
        tiny(freeze=1, augment="crop").fit(ROWS, Y)
    tiny(freeze=1, augment__activations=True).fit(ROWS, Y)


@pytest.mark.parametrize("freeze", ["all", 1])
def test_unknown_augmentation_of_activations(freeze):
    message = r"`augment__activations` must be a bool or hold some of .* Got 'blur'"
    with pytest.raises(ValueError, match=message):
        tiny(freeze=freeze, augment__activations=["flip", "blur"]).fit(ROWS, Y)
