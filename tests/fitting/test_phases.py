from types import SimpleNamespace

import pytest

from sktransfer.activations import forward_passes, process_store
from sktransfer.fitting._phases import plan_phases
from tests.test_classifier import ROWS, X, Y, small
from tests.test_fine_tuned import deep


def test_phases_share_the_epochs_from_the_top_down():
    split = deep().fit(ROWS, Y).backbone_
    trainer = SimpleNamespace(
        split=SimpleNamespace(backbone=split, boundary="input"),
        recipe=SimpleNamespace(unfreeze_every=2, starts_from_probe=True),
        n_epochs=8,
    )
    phases = plan_phases(trainer)
    assert sum(n for _, n, _ in phases) == 8
    assert phases[-1][0] == "input" and phases[-1][2][1] == 1
    assert [start for _, _, (start, _) in phases][1:] == [
        end for _, _, (_, end) in phases
    ][:-1]


def test_gradual_unfreezing_reads_each_image_once():
    process_store().clear()
    forward_passes().clear()
    model = small(freeze=5, training__unfreeze_every=1, max_epochs=5).fit(X, Y)
    passed = sum(n for (_, start, _), n in forward_passes().items() if start == "input")
    assert passed == len(X)
    plain = small(freeze=5, max_epochs=1).fit(X, Y)
    assert model.boundary_ == plain.boundary_
    assert model.n_trainable_parameters_ == plain.n_trainable_parameters_
    assert [*model.module_.state_dict()] == [*plain.module_.state_dict()]
    assert model.history_["epoch"].tolist() == [1, 2, 3, 4, 5]


def test_gradual_unfreezing_that_ends_early():
    with pytest.warns(UserWarning, match="ends before all stages are thawed"):
        model = deep(freeze="none", training__unfreeze_every=2, max_epochs=2).fit(
            ROWS, Y
        )
    assert model.predict(ROWS).shape == (36,)
