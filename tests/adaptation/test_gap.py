import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.datasets import load_digits
from torch import nn

from sktransfer import PretrainedFeatureExtractor
from sktransfer.activations import forward_passes, process_store
from sktransfer.adaptation import domain_gap, mmd_test, proxy_a_distance

DIGITS = load_digits().data / 16
SOURCE, SAME, INVERTED = DIGITS[:120], DIGITS[200:320], 1 - DIGITS[200:320]


def extractor(**settings):
    return PretrainedFeatureExtractor(image_shape=(8, 8), image_size=32, **settings)


@pytest.fixture(scope="module")
def gaps():
    model = extractor()
    return [domain_gap(model, SOURCE, X, random_state=0) for X in (SAME, INVERTED)]


def test_inverted_digits_are_farther_than_digits_at_each_stage(gaps):
    same, inverted = gaps
    assert (inverted["a_distance"] > same["a_distance"] + 0.5).all()
    assert (inverted["mmd2"] > same["mmd2"] + 0.05).all()
    np.testing.assert_allclose(inverted["p_value"], 1 / 201)
    assert (same["p_value"] > inverted["p_value"]).all()


def test_there_is_a_row_for_each_stage(gaps):
    model = extractor(stage=0).fit(SOURCE)
    names = model.backbone_.stage_names
    assert gaps[0].index.tolist() == names and gaps[0].index.name == "stage"
    columns = ["n_features", "a_distance", "mmd2", "p_value"]
    assert gaps[0].columns.tolist() == columns
    widths = [model.set_params(stage=n).fit(SOURCE)._n_features_out for n in names]
    assert gaps[0]["n_features"].tolist() == widths


def test_a_stage_is_compared_by_its_own_features():
    model = extractor(stage="blocks.2", pool_size=2)
    Z = [model.fit(SOURCE).transform(X) for X in (SOURCE, INVERTED)]
    row = domain_gap(model, SOURCE, INVERTED, random_state=0).loc["blocks.2"]
    assert row["n_features"] == Z[0].shape[1]
    assert row["mmd2"] == pytest.approx(mmd_test(*Z).statistic, abs=1e-5)
    assert row["a_distance"] == pytest.approx(proxy_a_distance(*Z), abs=0.1)


def test_all_stages_take_one_pass_and_the_extractor_stays():
    process_store().clear()
    model = extractor(stage=0).fit(SOURCE)
    forward_passes().clear()
    fitted = domain_gap(model, SOURCE[:40], SAME[:30], random_state=0)
    from_input = [
        n for (_, start, _), n in forward_passes().items() if start == "input"
    ]
    assert sum(from_input) == 70
    assert model.stage == 0 and len(model.stages_) == 1
    forward_passes().clear()
    unfitted = domain_gap(extractor(), SOURCE[:40], SAME[:30], random_state=0)
    assert sum(forward_passes().values()) == 0
    np.testing.assert_array_equal(fitted, unfitted)


def test_fitted_random_weights_are_those_that_are_looked_at():
    model = extractor(weights=None).fit(SOURCE[:5])
    first, again = (
        domain_gap(model, SOURCE[:30], INVERTED[:30], random_state=0) for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


def test_any_network():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    rows = np.random.RandomState(0).normal(size=(40, 4)).astype(np.float32)
    model = PretrainedFeatureExtractor(net)
    found = domain_gap(model, rows, rows + 3, max_samples=30, random_state=0)
    assert found["n_features"].tolist() == [3, 2]
    assert (found["p_value"] < 0.05).all()


def test_only_some_samples_are_compared():
    model = extractor()
    found = domain_gap(model, SOURCE, INVERTED, max_samples=20, random_state=0)
    again = domain_gap(model, SOURCE, INVERTED, max_samples=20, random_state=0)
    every = domain_gap(model, SOURCE, INVERTED, random_state=0)
    np.testing.assert_array_equal(found, again)
    assert not np.allclose(found["mmd2"], every["mmd2"], rtol=1e-3)


def test_samples_that_are_not_compared_do_not_pass_the_network():
    process_store().clear()
    model = extractor().fit(SOURCE)
    forward_passes().clear()
    domain_gap(model, SOURCE, SAME[:15], max_samples=20, random_state=0)
    passes = forward_passes().items()
    assert sum(n for (_, start, _), n in passes if start == "input") == 20 + 15


@pytest.mark.parametrize("max_samples", [20, 1000])
def test_output_of_pandas_changes_nothing(max_samples):
    settings = {"max_samples": max_samples, "random_state": 0}
    expected = domain_gap(extractor(), SOURCE[:40], SAME[:40], **settings)
    model = extractor().set_output(transform="pandas")
    found = domain_gap(model, SOURCE[:40], SAME[:40], **settings)
    pd.testing.assert_frame_equal(found, expected)
    with config_context(transform_output="pandas"):
        found = domain_gap(extractor(), SOURCE[:40], SAME[:40], **settings)
    pd.testing.assert_frame_equal(found, expected)


def test_samples_that_cannot_be_read():
    images = np.repeat(SOURCE.reshape(-1, 8, 8)[:, :, :, None], 3, axis=3)
    broken = [*images[:5], np.full((8, 8, 3), np.nan)]
    model = PretrainedFeatureExtractor(image_size=32, on_error="warn")
    message = r"`Z_target` must be finite\. Got NaN or infinity in 1 of 6 rows, the f"
    with pytest.warns(UserWarning, match="1 of 6 samples cannot be read"):
        with pytest.raises(ValueError, match=message):
            domain_gap(model, list(images[:5]), broken)


def test_too_few_samples():
    with pytest.raises(ValueError, match="`Z_target` must have at least 2 samples. Go"):
        domain_gap(extractor(), SOURCE[:5], SAME[:1])


@pytest.mark.parametrize("value", [1, 2.5, None])
def test_max_samples_out_of_range(value):
    message = rf"`max_samples` must be an int of at least 2\. Got {value}\."
    with pytest.raises(ValueError, match=message):
        domain_gap(extractor(), SOURCE, SAME, max_samples=value)


def test_something_else_than_an_extractor():
    message = "`extractor` must be a PretrainedFeatureExtractor. Got str."
    with pytest.raises(TypeError, match=message):
        domain_gap("resnet18", SOURCE, SAME)
