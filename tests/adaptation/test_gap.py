import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.datasets import load_digits
from torch import nn

from sktransfer import Pooling, PretrainedFeatureExtractor
from sktransfer.activations import forward_passes, process_store
from sktransfer.adaptation import domain_gap, mmd_test, proxy_a_distance

DIGITS = load_digits().data / 16
SOURCE, SAME, INVERTED = DIGITS[:60], DIGITS[200:260], 1 - DIGITS[200:260]


def make_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4)
    )


def extractor(**settings):
    return PretrainedFeatureExtractor(make_network(), **settings)


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


def test_table_has_one_row_per_stage(gaps):
    model = extractor(stage=1).fit(SOURCE)
    names = model.model_.backbone.stage_names
    assert gaps[0].index.tolist() == names and gaps[0].index.name == "stage"
    columns = ["n_features", "a_distance", "mmd2", "p_value"]
    assert gaps[0].columns.tolist() == columns
    assert gaps[0]["n_features"].tolist() == [8, 6, 4]
    for stage in names:
        Z = [model.set_params(stage=stage).fit_transform(X) for X in (SOURCE, INVERTED)]
        row = gaps[1].loc[stage]
        assert row["mmd2"] == pytest.approx(mmd_test(*Z).statistic, abs=1e-5)
        assert row["a_distance"] == pytest.approx(proxy_a_distance(*Z), abs=0.2)


def make_image_network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU()
    network = nn.Sequential(*layers)
    network.pretrained_cfg = {
        **{"input_size": (3, 16, 16), "crop_mode": "squash", "crop_pct": 1.0},
        **{"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear"},
    }
    return network


def test_all_stages_of_images_take_one_pass_and_the_extractor_stays():
    process_store().clear()
    settings = {"image_shape": (8, 8), "image_size": 16, "value_range": (0, 1)}
    settings |= {"backbone": make_image_network(), "pooling": Pooling("avg", grid=2)}
    model = PretrainedFeatureExtractor(stage=1, **settings).fit(SOURCE)
    forward_passes().clear()
    compare = {"n_permutations": 9, "max_samples": 12, "random_state": 0}
    fitted = domain_gap(model, SOURCE, SAME[:10], **compare)
    passes = forward_passes().items()
    assert sum(n for (_, start, _), n in passes if start == "input") == 12 + 10
    assert model.stage == 1 and len(model.stages_) == 1
    shapes = map(model.model_.backbone.activation_shape, fitted.index)
    assert fitted["n_features"].tolist() == [4 * channels for channels, *_ in shapes]
    forward_passes().clear()
    again = PretrainedFeatureExtractor(**settings).set_output(transform="pandas")
    found = domain_gap(again, SOURCE, SAME[:10], **compare)
    assert sum(forward_passes().values()) == 0
    pd.testing.assert_frame_equal(found, fitted)


def test_fitted_random_weights_are_compared():
    model = PretrainedFeatureExtractor(
        lambda: nn.Sequential(nn.LazyLinear(8)), random_state=None
    )
    model.fit(SOURCE[:5])
    first, again = (
        domain_gap(model, SOURCE, INVERTED, n_permutations=9, random_state=0)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


def test_only_some_samples_are_compared(gaps):
    settings = {"max_samples": 20, "random_state": 0}
    found = domain_gap(extractor(), SOURCE, INVERTED, **settings)
    assert not np.allclose(found["mmd2"], gaps[1]["mmd2"], rtol=1e-3)
    with config_context(transform_output="pandas"):
        again = domain_gap(extractor(), SOURCE, INVERTED, **settings)
    pd.testing.assert_frame_equal(found, again)


def test_unreadable_samples_raise():
    images = [np.full((8, 8, 3), value, dtype=np.uint8) for value in (0, 50, 99)]
    broken = [*images, np.full((8, 8, 3), np.nan)]
    model = PretrainedFeatureExtractor(
        make_image_network(), image_size=16, on_error="warn"
    )
    message = r"`Z_target` must be finite\. Got NaN or infinity in 1 of 4 rows, the f"
    with pytest.warns(UserWarning, match="1 of 4 samples cannot be read"):
        with pytest.raises(ValueError, match=message):
            domain_gap(model, images, broken)


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match="`Z_target` must have at least 2 samples. Go"):
        domain_gap(extractor(), SOURCE[:5], SAME[:1])
    for value in (1, 2.5, None):
        message = rf"`max_samples` must be an int of at least 2\. Got {value}\."
        with pytest.raises(ValueError, match=message):
            domain_gap(extractor(), SOURCE, SAME, max_samples=value)
    message = "`extractor` must be a PretrainedFeatureExtractor. Got str."
    with pytest.raises(TypeError, match=message):
        domain_gap("resnet18", SOURCE, SAME)
