import io
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.nn import functional as F

from sktransfer import Pooling, PretrainedFeatureExtractor, compute, config_context
from sktransfer.backbones import load_backbone
from sktransfer.inputs import as_samples, iter_batches
from sktransfer.model import _loaded

STAGES = ["stem", *(f"blocks.{i}" for i in range(7)), "conv_head"]
ALL = load_digits(n_class=3)
DIGITS, LABELS = ALL.images[:24], ALL.target[:24]


def make_network():
    return nn.Sequential(
        nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)
    )


def small(**settings):
    settings = {"image_size": 64, "value_range": (0, 16), **settings}
    return PretrainedFeatureExtractor().set_params(**settings)


def activation(backbone, where, X):
    """Compute an activation directly."""
    samples = as_samples(X, backbone.preprocessing, value_range=(0, 16))
    ((_, batch),) = iter_batches(samples, backbone.preprocessing, len(samples))
    prefix, _ = backbone.split(where)
    with torch.inference_mode():
        return prefix.eval()(backbone.preprocessing.to_input(batch))


@pytest.fixture(scope="module")
def lite():
    return load_backbone("efficientnet_lite0", image_size=64)


@pytest.fixture(autouse=True)
def _exact():
    """Round nothing that is kept, so that values can be compared."""
    with config_context(activation_dtype="float32", precision="float32"):
        yield


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        (-8, ["stem"]),
        (np.int64(4), ["blocks.2"]),
        ("blocks.4.1", ["blocks.4.1"]),
        (["blocks.4", 1, "last"], ["blocks.4", "stem", "conv_head"]),
    ],
)
def test_stages_agree_with_the_network(lite, stage, names):
    extractor = small(stage=stage)
    features = extractor.fit_transform(DIGITS[:6])
    assert extractor.stages_ == names
    assert features.dtype == np.float32
    parts = [activation(lite, name, DIGITS[:6]).mean((2, 3)) for name in names]
    np.testing.assert_allclose(features, torch.hstack(parts), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "grid"), [("avg", 1), ("max", 3), ("avgmax", 3), ("flatten", 1)]
)
def test_pooling_agrees_with_torch(lite, pooling, grid):
    z = activation(lite, "blocks.2", DIGITS[:4])  # (n, c, h, w)
    average = F.adaptive_avg_pool2d(z, grid).flatten(1)
    largest = F.adaptive_max_pool2d(z, grid).flatten(1)
    expected = {
        "avg": average,
        "max": largest,
        "avgmax": torch.hstack([average, largest]),
        "flatten": z.flatten(1),
    }[pooling]
    extractor = small(stage="blocks.2", pooling=pooling, pooling__grid=grid)
    features = extractor.fit_transform(DIGITS[:4])
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)
    assert len(extractor.get_feature_names_out()) == expected.shape[1]


@pytest.fixture(scope="module")
def vit():
    return load_backbone(
        "timm/test_vit", weights=None, image_size=160, random_state=0
    )  # 10 x 10 patches


@pytest.mark.parametrize("pooling", ["cls", "avg", "max"])
def test_tokens_of_a_vision_transformer(vit, pooling):
    z = activation(vit, "blocks.0", DIGITS[:2])  # (n, 101, c)
    pooled = {"cls": z[:, 0], "avg": z[:, 1:].mean(1), "max": z[:, 1:].amax(1)}
    extractor = PretrainedFeatureExtractor(
        vit,
        stage="blocks.0",
        pooling=pooling,
        value_range=(0, 16),
    )
    features = extractor.fit_transform(DIGITS[:2])
    np.testing.assert_allclose(features, pooled[pooling], rtol=1e-4, atol=1e-4)


def test_tokens_keep_their_place_in_a_grid(vit):
    z = activation(vit, "blocks.0", DIGITS[:2])[:, 1:]
    as_map = z.reshape(2, 10, 10, -1).permute(0, 3, 1, 2)  # (n, c, h, w)
    expected = F.adaptive_avg_pool2d(as_map, 3).flatten(1)
    extractor = PretrainedFeatureExtractor(
        vit,
        stage="blocks.0",
        pooling=Pooling("avg", grid=3),
        value_range=(0, 16),
    )
    features = extractor.fit_transform(DIGITS[:2])
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


def test_channels_last_of_swin():
    swin = load_backbone(
        "torchvision/swin_t", weights=None, image_size=64, random_state=0
    )
    z = activation(swin, "features.1", DIGITS[:2])  # (n, h, w, c)
    assert z.shape == (2, 16, 16, 96)
    extractor = PretrainedFeatureExtractor(
        swin,
        stage="features.1",
        pooling=Pooling("avg", grid=2),
        value_range=(0, 16),
    )
    expected = F.adaptive_avg_pool2d(z.permute(0, 3, 1, 2), 2).flatten(1)
    features = extractor.fit_transform(DIGITS[:2])
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gains", [False, True])
def test_precision_auto_stays_near_float32(monkeypatch, gains):
    monkeypatch.setattr(compute._runtime, "gains_by_bfloat16", lambda device: gains)
    exact = small(stage=[1, 4, "last"]).fit_transform(DIGITS)
    with config_context(precision="auto"):
        fast = small(stage=[1, 4, "last"]).fit_transform(DIGITS)
    error = np.linalg.norm(fast - exact) / np.linalg.norm(exact)
    assert 1e-3 < error < 0.05 if gains else error < 1e-5


def test_fitted_where_bfloat16_gains_and_used_where_it_does_not(monkeypatch):
    monkeypatch.setattr(compute._runtime, "gains_by_bfloat16", lambda device: True)
    with config_context(precision="auto"):
        extractor = small().fit(DIGITS)
    for module in (compute._runtime, _loaded):
        monkeypatch.setattr(module, "gains_by_bfloat16", lambda device: False)
    exact = small().fit_transform(DIGITS[:4])
    np.testing.assert_allclose(
        extractor.transform(DIGITS[:4]), exact, rtol=1e-3, atol=1e-4
    )


def test_vectors_agree_with_the_network():
    extractor = PretrainedFeatureExtractor(make_network, stage=1, random_state=0)
    X = ALL.data[:20]
    features = extractor.fit_transform(X)
    layer = extractor.backbone_.module[0]
    with torch.no_grad():
        expected = layer(torch.from_numpy(X).float()).relu()
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)


def test_batch_size_changes_nothing():
    expected = small(stage=[3, "last"]).fit_transform(DIGITS)
    extractor = small(stage=[3, "last"], batch_size=5)
    features = extractor.fit_transform(DIGITS)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


def test_state_dict_as_weights(tmp_path):
    X = np.random.RandomState(0).randint(0, 255, (4, 40, 40, 3)).astype(np.uint8)
    state = load_backbone("timm/test_resnet", weights=None).module.state_dict()
    torch.save(state, tmp_path / "weights.pt")

    def features(weights):
        model = PretrainedFeatureExtractor("timm/test_resnet", weights=weights)
        return clone(model).set_params(image_size=64).fit(X)

    model = features(state)
    expected = features(tmp_path / "weights.pt").transform(X)
    np.testing.assert_array_equal(model.transform(X), expected)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(model)).transform(X), expected
    )
    other = {k: 1.5 * v if v.is_floating_point() else v for k, v in state.items()}
    assert np.abs(features(other).transform(X) - expected).max() > 1e-3
    with pytest.raises(TypeError, match="`weights` must be .*a state dict. Got False."):
        features(False)


def test_feature_names_and_pandas():
    extractor = small(stage="stem").set_output(transform="pandas")
    frame = extractor.fit_transform(DIGITS[:3])
    names = extractor.get_feature_names_out().tolist()
    assert names[:2] == ["stem_0", "stem_1"]
    assert frame.columns.tolist() == names and len(names) == 32
    expected = extractor.set_output(transform="default").transform(DIGITS[:3])
    np.testing.assert_array_equal(frame.to_numpy(), expected)
    both = small(stage=["blocks.3", "stem"], pooling__grid=2).fit(DIGITS[:3])
    names = both.get_feature_names_out()
    assert [names[0], *names[319:321], names[-1]] == [
        *("blocks.3_0", "blocks.3_319", "stem_0", "stem_127")
    ]


def test_transform_changes_no_attribute():
    extractor = small(stage="stem").fit(DIGITS[:3])
    before = {**vars(extractor)}
    extractor.transform(DIGITS[:3])
    assert vars(extractor).keys() == before.keys()


def test_clone_pickle_and_joblib():
    extractor = small(stage=["stem", 4]).fit(DIGITS)
    expected = extractor.transform(DIGITS)
    copies = [pickle.loads(pickle.dumps(extractor)), clone(extractor).fit(DIGITS)]
    joblib.dump(extractor, file := io.BytesIO())
    copies.append(joblib.load(io.BytesIO(file.getvalue())))
    for copy in copies:
        np.testing.assert_array_equal(copy.transform(DIGITS), expected)
        assert copy.stages_ == ["stem", "blocks.2"]


def test_grid_search_over_stage_in_a_pipeline():
    pipeline = make_pipeline(small(), LogisticRegression(max_iter=1000))
    grid = {"pretrainedfeatureextractor__stage": ["stem", "blocks.4", "last"]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise")
    search.fit(DIGITS, LABELS)
    assert search.best_score_ >= 0.9
    assert len({*search.cv_results_["mean_test_score"]}) > 1
    extractor = search.best_estimator_[0]
    assert extractor.stages_ == [
        "conv_head" if extractor.stage == "last" else extractor.stage
    ]


@pytest.mark.parametrize("stage", [10, 0, -9, [1.5]])
def test_stage_out_of_range(stage):
    with pytest.raises(
        ValueError, match="'last', a number of stages from 1 to 9 or from -8 to -1, or"
    ) as info:
        small(stage=stage).fit(DIGITS)
    got = stage[0] if isinstance(stage, list) else stage
    assert f"of efficientnet_lite0: {STAGES}. Got {got}." in str(info.value)


def test_unknown_stage_names_near_ones():
    with pytest.raises(ValueError, match="must be 'last'.* Got 'bloks.4'.*'blocks.4'"):
        small(stage="bloks.4").fit(DIGITS)


def test_no_stage():
    with pytest.raises(
        ValueError, match="`stage` must name at least one stage. Got none"
    ):
        small(stage=[]).fit(DIGITS)


def test_cls_without_a_class_token():
    with pytest.raises(ValueError, match="`pooling='cls'` needs a class token.*'stem'"):
        small(stage="stem", pooling="cls").fit(DIGITS)


def test_not_fitted():
    with pytest.raises(NotFittedError, match="PretrainedFeatureExtractor instance"):
        small().transform(DIGITS)


@pytest.mark.parametrize(
    "changes", [{"stage": 1.5}, {"pooling": "mean"}, {"pooling__grid": 0}]
)
def test_parameters_are_validated(changes):
    (name,) = changes
    name = name.rpartition("__")[2]
    with pytest.raises(ValueError, match=f"The '{name}' parameter of"):
        small(**changes).fit(DIGITS)
