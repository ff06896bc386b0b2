import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from torch import nn

from sktransfer import PretrainedFeatureExtractor
from sktransfer.adaptation import domain_gap
from sktransfer.inspection import GapDisplay
from sktransfer.utils import import_optional

GAPS = pd.DataFrame(
    {
        "n_features": [4, 8],
        "a_distance": [-0.1, 1.8],
        "mmd2": [0.01, 0.2],
        "p_value": [0.2, 0.005],
    },
    index=["stem", "layer1"],
)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def heights(display):
    return [bar.get_height() for bar in display.bars_]


@pytest.mark.parametrize(
    ("metric", "label"), [("a_distance", "Proxy A-distance"), ("mmd2", "Squared MMD")]
)
def test_bars_have_the_values_of_the_metric(metric, label):
    display = GapDisplay(GAPS).plot(metric=metric)
    assert heights(display) == GAPS[metric].tolist()
    assert display.ax_.get_ylabel() == label
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == display.stages == ["stem", "layer1"]
    assert [bar.get_alpha() for bar in display.bars_] == [0.3, 1.0]
    assert display.ax_.figure is display.figure_


def _from_csv(gaps, **options):
    return pd.read_csv(io.StringIO(gaps.rename_axis("stage").to_csv()), **options)


@pytest.mark.parametrize(
    "change",
    [
        lambda gaps: gaps,
        _from_csv,
        lambda gaps: _from_csv(gaps, index_col=0),
        lambda gaps: _from_csv(gaps, dtype=str),
        lambda gaps: gaps.rename_axis("stage").reset_index()[::-1][::-1],
        lambda gaps: gaps.astype(object)[[*gaps.columns[::-1]]],
        lambda gaps: gaps.astype("Float64"),
    ],
)
def test_table_is_drawn_after_a_round_trip(change):
    display = GapDisplay(change(GAPS)).plot()
    assert heights(display) == GAPS["a_distance"].tolist()
    assert display.stages == ["stem", "layer1"]
    assert [bar.get_alpha() for bar in display.bars_] == [0.3, 1.0]
    np.testing.assert_array_equal(display.mmd2, GAPS["mmd2"])


def test_rows_in_another_order_keep_their_names():
    display = GapDisplay(GAPS[::-1]).plot()
    assert display.stages == ["layer1", "stem"]
    assert heights(display) == [1.8, -0.1]
    numbered = GapDisplay(GAPS.reset_index(drop=True)).plot()
    ticks = [tick.get_text() for tick in numbered.ax_.get_xticklabels()]
    assert ticks == numbered.stages == ["0", "1"]


def test_absent_columns_are_not_drawn():
    display = GapDisplay(GAPS[["a_distance"]]).plot()
    assert [bar.get_alpha() for bar in display.bars_] == [1.0, 1.0]
    text = (
        "`metric` must be a column that GapDisplay was given. Got 'mmd2'. "
        "Pass `mmd2`, or a table with this column."
    )
    with pytest.raises(ValueError, match=text):
        display.plot(metric="mmd2")


def test_table_with_gaps_and_without_rows():
    gaps = GAPS.assign(a_distance=[np.nan, 1.8], p_value=[np.nan, 0.001])
    display = GapDisplay(gaps).plot()
    assert display.ax_.get_ylim() == (0, 2)
    assert [bar.get_alpha() for bar in display.bars_] == [0.3, 1.0]
    assert heights(GapDisplay(GAPS[:0]).plot()) == []


def test_invalid_columns_raise():
    text = r"`mmd2` must have one number per stage, so the shape \(2,\)\. Got \(3,\)\."
    with pytest.raises(ValueError, match=text):
        GapDisplay(["a", "b"], mmd2=[1, 2, 3])
    with pytest.raises(ValueError, match=r"`p_value` must be numbers\. Got \['x', 'y'"):
        GapDisplay(["a", "b"], p_value=["x", "y"])


def test_distances_are_drawn_up_to_2():
    assert GapDisplay(GAPS).plot().ax_.get_ylim() == (-0.1, 2)


def test_plot_in_given_axes():
    _, ax = plt.subplots()
    display = GapDisplay(GAPS).plot(ax)
    assert display.ax_ is ax
    assert display.plot().ax_ is not ax


def test_from_estimator_draws_what_domain_gap_finds():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    model = PretrainedFeatureExtractor(net)
    X = np.random.RandomState(0).normal(size=(30, 4)).astype(np.float32)
    settings = {"n_permutations": 20, "max_samples": 25, "random_state": 0}
    gaps = domain_gap(model, X, X + 1, **settings)
    display = GapDisplay.from_estimator(model, X, X + 1, metric="mmd2", **settings)
    np.testing.assert_array_equal(display.a_distance, gaps["a_distance"])
    np.testing.assert_array_equal(display.p_value, gaps["p_value"])
    assert heights(display) == gaps["mmd2"].tolist()


def test_unknown_metric_raises():
    message = r"`metric` must be one of \['a_distance', 'mmd2'\]\. Got 'mmd'\."
    with pytest.raises(ValueError, match=message):
        GapDisplay(GAPS).plot(metric="mmd")


def test_missing_matplotlib_raises(monkeypatch):
    def absent(module):
        raise ModuleNotFoundError(module, name="matplotlib")

    monkeypatch.setattr(f"{import_optional.__module__}.import_module", absent)
    with pytest.raises(ImportError, match=r"GapDisplay needs matplotlib\. Install"):
        GapDisplay(GAPS).plot()
