import numpy as np
import pytest
from skorch.callbacks import EarlyStopping as EarlyStoppingOfSkorch

from sktransfer import EarlyStopping, TransferWarning
from sktransfer.fitting import _diagnosis
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
    model = deep(early_stopping=stopping, max_epochs=7)
    fewest = 8 if isinstance(stopping, EarlyStopping) else r"\d\d+"
    message = (
        r"^`early_stopping` has no effect: to hold samples out for a trial, and to "
        rf"train on all of them after it, needs `max_epochs` of at least {fewest} here"
    )
    with pytest.warns(TransferWarning, match=message) as caught:
        model.fit(ROWS, Y)
    assert [w.filename for w in caught] == [__file__]
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


def test_epochs_that_are_enough_are_those_that_the_warning_names():
    for max_epochs, is_held_out in {7: False, 8: True}.items():
        stopping = EarlyStopping(n_iter_no_change=4)
        model = deep(early_stopping=stopping, max_epochs=max_epochs).fit(ROWS, Y)
        assert hasattr(model, "best_epoch_") == is_held_out


def test_advice_after_a_trial_is_about_early_stopping(monkeypatch):
    monkeypatch.setattr(_diagnosis, "_LARGE_DRIFT", 2)  # which has a warning of its own
    stopping = EarlyStopping(0.3, n_iter_no_change=2)
    model = deep(early_stopping=stopping, max_epochs=40, lr=0.2)
    with pytest.warns(TransferWarning, match="ended below the linear probe") as caught:
        model.fit(ROWS, Y)
    (text,) = (str(w.message) for w in caught)
    advice = f"Set `early_stopping=False` (it chose {model.n_iter_} of 40 epochs), take"
    assert model.n_iter_ < 40 and advice in text and "Raise" not in text
