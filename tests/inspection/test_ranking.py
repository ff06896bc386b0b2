import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from sktransfer.advice import BackboneRanker
from sktransfer.inspection import RankingDisplay

SCORES = pd.DataFrame(
    {
        "backbone": ["a", "a", "b"],
        "score": [1.0, 2.0, 3.0],
        "multiply_adds": [1e6, 2e6, 3e6],
    }
)


def test_plot_has_a_line_for_each_backbone():
    display = RankingDisplay(SCORES, score_name="logme").plot(linestyle="--")
    assert [line.get_label() for line in display.lines_] == ["a", "b"]
    assert display.lines_[0].get_xydata().tolist() == [[1, 1], [2, 2]]
    assert display.lines_[0].get_linestyle() == "--"
    assert display.ax_.get_ylabel() == "logme"
    assert display.figure_ is display.ax_.figure


def test_plot_on_given_axes():
    first = RankingDisplay(SCORES).plot()
    assert RankingDisplay(SCORES).plot(ax=first.ax_).ax_ is first.ax_


def test_from_estimator(network, digits):
    ranker = BackboneRanker([network]).fit(*digits)
    display = RankingDisplay.from_estimator(ranker)
    assert display.scores is ranker.scores_
    assert display.ax_.get_ylabel() == "lda"
    ranker.scorer_ = sum
    assert RankingDisplay.from_estimator(ranker).score_name == "sum"


def test_from_estimator_unfitted_raises():
    with pytest.raises(NotFittedError):
        RankingDisplay.from_estimator(BackboneRanker([]))
