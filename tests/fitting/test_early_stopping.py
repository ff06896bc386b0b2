import numpy as np
import pytest
from skorch.callbacks import EarlyStopping as EarlyStoppingOfSkorch

from sktransfer import EarlyStopping
from tests.test_classifier import ROWS, ROWS_NEW, Y_NEW, Y
from tests.test_fine_tuned import deep


@pytest.mark.parametrize("settings", [{}, {"training__unfreeze_every": 2}])
def test_early_stopping_chooses_the_number_of_epochs(settings):
    stopping = EarlyStopping(0.3, n_iter_no_change=2)
    settings = {"training__head_init": "random", "lr": 0.03, **settings}
    model = deep(early_stopping=stopping, max_epochs=12, **settings).fit(ROWS, Y)
    tried = model.history_[model.history_["is_trial"].eq(True)]
    assert tried["valid_accuracy"].notna().all()
    assert 0 < model.best_epoch_ == tried["epoch"][tried["valid_best"].eq(True)].max()
    assert len(model.history_) == 2 * len(tried) == 2 * model.n_iter_
    trained = model.model_.card["trained"]
    assert (trained["samples"], trained["epochs"]) == (len(Y), model.n_iter_)
    by_hand = deep(max_epochs=model.n_iter_, **settings).fit(ROWS, Y)
    np.testing.assert_array_equal(
        model.predict_proba(ROWS_NEW), by_hand.predict_proba(ROWS_NEW)
    )


def test_training_goes_on_where_no_epoch_was_better_than_the_start():
    settings = {"lr": 1e-6, "augment": None}
    stopping = EarlyStopping(0.3, n_iter_no_change=2)
    model = deep(early_stopping=stopping, max_epochs=8, **settings)
    history = model.fit(ROWS, Y).history_
    tried = history["is_trial"].eq(True)
    assert model.n_iter_ == tried.sum() == (~tried).sum()


@pytest.mark.parametrize("stopping", [True, EarlyStopping(n_iter_no_change=4)])
def test_nothing_is_held_out_where_two_trainings_take_more_epochs(stopping):
    model = deep(early_stopping=stopping, max_epochs=7).fit(ROWS, Y)
    expected = deep(max_epochs=7).fit(ROWS, Y)
    assert "valid_loss" not in model.history_ and not hasattr(model, "best_epoch_")
    np.testing.assert_array_equal(
        model.predict_proba(ROWS_NEW), expected.predict_proba(ROWS_NEW)
    )


@pytest.mark.parametrize("ema", [None, 0.5])
def test_early_stopping_restores_what_is_best_on_given_samples(ema):
    stopping = EarlyStopping(n_iter_no_change=3)
    settings = {"training__ema": ema, "training__head_init": "random", "lr": 0.1}
    model = deep(early_stopping=stopping, max_epochs=60, **settings)
    history = model.fit(ROWS, Y, X_val=ROWS_NEW, y_val=Y_NEW).history_
    assert len(history) < 60 and history["valid_loss"].notna().all()
    ordered = history.sort_values(["valid_accuracy", "valid_loss"], ascending=[0, 1])
    assert model.best_epoch_ == ordered["epoch"].iloc[0] == len(history) - 3
    proba = model.predict_proba(ROWS_NEW)[range(100), Y_NEW]
    best = ordered["valid_loss"].iloc[0]
    assert -np.log(proba).mean() == pytest.approx(best, rel=1e-4)


def test_callbacks_of_the_validation_are_for_the_trial_alone():
    stopping = EarlyStopping(0.3, n_iter_no_change=2)
    callbacks = [EarlyStoppingOfSkorch("valid_loss", patience=50)]
    model = deep(early_stopping=stopping, max_epochs=6, lr=0.03, callbacks=callbacks)
    assert model.fit(ROWS, Y).history_["valid_loss"].notna().any()
