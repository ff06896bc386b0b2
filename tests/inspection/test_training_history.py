import numpy as np
import pandas as pd
import pytest

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.inspection import TrainingHistoryDisplay

HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "train_loss": [3.0, 2.0, 1.0],
        "valid_loss": [3.0, 2.5, 2.6],
        "train_accuracy": [0.5, 0.6, 0.7],
        "lr": [1e-3, 1e-3, 1e-4],
    }
)


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_panels_have_the_columns():
    display = TrainingHistoryDisplay(HISTORY, best_epoch=2).plot()
    assert [*display.axes_] == ["loss", "accuracy", "lr"]
    assert display.lines_.keys() == {*HISTORY.columns} - {"epoch"}
    for column, line in display.lines_.items():
        assert line.get_ydata().tolist() == HISTORY[column].tolist()
        assert line.get_xdata().tolist() == [1, 2, 3]
    assert labels(display.ax_) == ["training", "validation", "best epoch"]
    marks = [line for ax in display.axes_.values() for line in ax.lines[-1:]]
    assert [line.get_xdata()[0] for line in marks] == [2, 2, 2]
    assert display.axes_["lr"].get_xlabel() == "epoch"
    assert display.ax_.get_title() == "Training"
    assert TrainingHistoryDisplay(HISTORY).plot(display.ax_).axes_.keys() == {"loss"}


def test_phases_are_separated_and_named():
    history = HISTORY.assign(boundary=["layer2", "layer2", "input"])
    display = TrainingHistoryDisplay(history).plot()
    assert display.phases == [(1, 2, "layer2"), (3, 3, "input")]
    assert [text.get_text() for text in display.ax_.texts] == ["layer2", "none"]
    assert [text.xy[0] for text in display.ax_.texts] == [1.5, 3]
    assert display.ax_.lines[-1].get_xdata() == [2.5, 2.5]


def test_phases_after_epochs_without_any():
    history = HISTORY.assign(boundary=[np.nan, "a", "a"])
    assert TrainingHistoryDisplay(history).phases == [(2, 3, "a")]


def test_trial_of_early_stopping_ends_at_a_line():
    history = HISTORY.assign(is_trial=[True, np.nan, np.nan], boundary="a")
    display = TrainingHistoryDisplay(history, best_epoch=1).plot()
    assert display.trial_end == 1
    assert display.phases == [(1, 1, "a"), (2, 3, "a")]
    assert labels(display.ax_)[2:] == ["end of the trial", "best epoch"]
    assert [line.get_xdata()[0] for line in display.ax_.lines[-2:]] == [1.5, 1]
    assert TrainingHistoryDisplay(HISTORY.assign(is_trial=True)).trial_end is None
    assert TrainingHistoryDisplay(HISTORY).trial_end is None


@pytest.fixture(scope="module")
def gradual(network, digits):
    X, y = digits
    model = FineTunedClassifier(network, freeze=7, max_epochs=3, random_state=0)
    model.set_params(training__unfreeze_every=1, augment=None)
    return model.fit(X[:60], y[:60], X_val=X[60:], y_val=y[60:])


def test_from_estimator_shows_gradual_unfreezing(gradual):
    display = TrainingHistoryDisplay.from_estimator(gradual)
    assert display.phases == [(1, 1, "7"), (2, 3, "6")]
    assert display.history is gradual.history_
    assert "valid_accuracy" in display.lines_
    assert display.best_epoch is None


def test_from_estimator_without_epochs_raises(probe, extractor):
    text = "Got one whose head was solved in one step, .*: freeze fewer stages than 9"
    with pytest.raises(ValueError, match=text):
        TrainingHistoryDisplay.from_estimator(probe)
    with pytest.raises(TypeError, match="Got a PretrainedFeatureExtractor, which trai"):
        TrainingHistoryDisplay.from_estimator(extractor)
    assert isinstance(extractor, PretrainedFeatureExtractor)
