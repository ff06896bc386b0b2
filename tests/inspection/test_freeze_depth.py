import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from sktransfer.inspection import FreezeDepthDisplay


@pytest.fixture
def display():
    return FreezeDepthDisplay(
        ["b", "a", "b", "a"],
        [0.8, 0.9, 0.7, 0.6],
        [0.01, 0.02, 0.03, 0.04],
        fit_times=[1, 2, 3, 4],
        labels=["x", "x", "y", "y"],
        stages=["a", "b"],
        score_name="accuracy",
        best=1,
    )


def heights(container):
    return container.lines[0].get_ydata().tolist()


def test_plot_has_scores_and_times_by_depth(display):
    display.plot()
    assert [heights(line) for line in display.lines_] == [[0.9, 0.8], [0.6, 0.7]]
    assert [heights(line) for line in display.time_lines_] == [[2, 1], [4, 3]]
    (segments,) = display.lines_[0].lines[2]
    ends = np.array([segment[:, 1] for segment in segments.get_segments()])
    np.testing.assert_allclose(ends, [[0.88, 0.92], [0.79, 0.81]])
    ticks = [t.get_text() for t in display.time_ax_.get_xticklabels()]
    assert ticks == display.stages == ["a", "b"]
    assert display.ax_.get_ylabel() == "accuracy"
    assert display.time_ax_.get_ylabel() == "fit time (s)"
    assert display.time_ax_.get_xlabel() == "Frozen up to"
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert {*legend} == {"x", "y", "chosen"}


def test_ring_is_around_the_chosen_candidate(display):
    ring = display.plot().ax_.lines[-1]
    shifted = display.lines_[0].lines[0].get_xydata()[0]
    np.testing.assert_allclose(ring.get_xydata()[0], shifted)


def test_single_axes_show_the_scores_alone(display):
    _, ax = plt.subplots()
    assert display.plot(ax).ax_ is ax
    assert display.time_ax_ is None
    assert display.time_lines_ == []
    assert ax.get_xlabel() == "Frozen up to"


def test_scores_alone():
    display = FreezeDepthDisplay(["a", "b"], [1, 2], [0, 0]).plot()
    assert display.time_ax_ is None
    assert display.stages == ["a", "b"]
    with pytest.raises(ValueError, match="FreezeDepthDisplay must be one Axes or up"):
        display.plot([display.ax_] * 2)


def test_from_cv_results_of_a_search(probe, digits):
    grid = {"freeze": ["all"], "C": [0.1, 1.0]}
    search = GridSearchCV(probe, grid, cv=2).fit(digits[0][:60], digits[1][:60])
    display = FreezeDepthDisplay.from_cv_results(search)
    assert display.table["label"].tolist() == ["C=0.1", "C=1"]
    results = search.cv_results_
    assert display.table["score"].tolist() == results["mean_test_score"].tolist()
    assert display.table["fit_time"].tolist() == results["mean_fit_time"].tolist()
    assert display.best == search.best_index_
