"""Whatever comes in: a right answer, or an error that we or scikit-learn raise."""

import traceback
import warnings
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import sklearn
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis.extra import numpy as hnp
from torch import nn

import sktransfer
from sktransfer import (
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedFeatureExtractor,
)
from sktransfer.backbones import load_backbone
from sktransfer.inputs import ImagePreprocessing

PREPROCESSING = ImagePreprocessing((8, 8), 8, "bilinear", (0.5,) * 3, (0.5,) * 3)
OURS = [Path(package.__file__).parent for package in (sktransfer, sklearn)]


def make_backbone():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU()
    return load_backbone(nn.Sequential(*layers), preprocessing=PREPROCESSING)


BACKBONE = make_backbone()
STAGES = BACKBONE.stage_names


def tried(n_examples):
    """Draw so many examples, always the same."""
    return settings(
        deadline=None,
        derandomize=True,
        database=None,
        max_examples=n_examples,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


def attempt(function):
    """Return what a function gives, or None where it refuses as it should."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return function()
    except (ValueError, TypeError) as refusal:
        error = refusal
    last = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    assert any(folder in last.parents for folder in OURS), f"{last}: {error!r}"
    assert len(str(error)) > 20, f"{error!r} says too little"
    return None


DTYPES = st.sampled_from(
    ["uint8", "uint16", "int64", "float16", "float32", "float64", "bool", ">u2", ">f4"]
)
ANY_NUMBER = st.integers(0, 6)
SEVERAL = st.integers(2, 6)
LENGTHS = st.one_of(st.integers(1, 4), st.integers(5, 20))


@st.composite
def shapes(draw, n_samples):
    """Shapes of images: gray, or with channels at either end."""
    n = draw(n_samples)
    h, w, c = draw(LENGTHS), draw(LENGTHS), draw(st.sampled_from([1, 3, 4]))
    last, first = (n, h, w, c), (n, min(c, 3), h, w)
    return draw(st.sampled_from([(n, h, w), last, first]))


@st.composite
def odd_shapes(draw, n_samples):
    """Shapes that hold no images."""
    n, h, w = draw(n_samples), draw(LENGTHS), draw(LENGTHS)
    few, many = [(n,), (n, h), (n, h, 0)], [(n, h, w, 2), (n, h, 3, w), (1, n, h, w, 3)]
    return draw(st.sampled_from(few + many))


@st.composite
def images(draw, shapes=shapes(ANY_NUMBER)):  # noqa: B008
    """Arrays of any dtype and memory layout, in some range."""
    shape, dtype = draw(shapes), np.dtype(draw(DTYPES))
    highest = {"b": 1, "u": 255 if dtype.itemsize == 1 else 60_000}.get(dtype.kind, 300)
    high = min(draw(st.sampled_from([1, 16, 255, 60_000])), highest)
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    whole = dtype.kind != "f" or draw(st.booleans())
    X = rng.integers(0, high + 1, shape) if whole else rng.random(shape)
    return draw(strided(X.astype(dtype)))


@st.composite
def spoilt(draw):
    """Arrays that hold a value that no image has, at their end."""
    X = np.zeros(draw(shapes(SEVERAL)), draw(st.sampled_from(["f2", "f4", "f8"])))
    X[0] = 0.5
    X.flat[-1] = draw(st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 1.5, 6e4]))
    return X


ANY_IMAGES = st.one_of(
    images(), images(), images(), images(odd_shapes(ANY_NUMBER)), spoilt()
)


@st.composite
def strided(draw, X):
    """Bring an array to another layout of the memory, or to another container."""
    kind = draw(
        st.sampled_from(["plain", "F", "step", "back", "frozen", "list", "torch"])
    )
    if kind == "F":
        return np.asfortranarray(X)
    if kind == "step":
        return np.repeat(X, 2, axis=-1)[..., ::2]
    if kind == "back":
        return X[::-1].copy()[::-1]
    if kind == "frozen":
        X.flags.writeable = False
    if kind == "list":
        return list(X)
    if kind == "torch" and X.dtype.isnative:
        return torch.from_numpy(X)
    return X


def plain(X):
    """The same images as a new array, one after another in memory."""
    if isinstance(X, list):
        return np.stack(X)
    X = X.numpy() if isinstance(X, torch.Tensor) else X
    return np.ascontiguousarray(X.astype(X.dtype.newbyteorder("=")))


@tried(120)
@given(X=ANY_IMAGES)
def test_features_of_any_array(X):
    extractor = PretrainedFeatureExtractor(BACKBONE)
    features = attempt(lambda: extractor.fit(X).transform(X))
    if features is None:
        return
    assert features.shape == (len(X), 6) and features.dtype == np.float32
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(extractor.transform(plain(X)), features)


@tried(100)
@given(X=ANY_IMAGES, seen=images(shapes(SEVERAL)))
def test_features_of_one_array_after_fitting_another(X, seen):
    extractor = PretrainedFeatureExtractor(BACKBONE)
    if attempt(lambda: extractor.fit(seen)) is None:
        return
    before = extractor.transform(seen)
    features = attempt(lambda: extractor.transform(X))
    assert features is None or features.shape == (len(X), 6)
    np.testing.assert_array_equal(extractor.transform(seen), before)


@tried(100)
@given(X=ANY_IMAGES)
def test_features_where_some_may_be_unreadable(X):
    extractor = PretrainedFeatureExtractor(BACKBONE, on_error="warn")
    features = attempt(lambda: extractor.fit(X).transform(X))
    if features is None:
        return
    assert features.shape == (len(X), 6)
    bad = np.isnan(features).all(axis=1)
    assert np.isfinite(features[~bad]).all()
    assert extractor.unreadable_["row"].tolist() == np.flatnonzero(bad).tolist()


STAGE = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([*STAGES, "input", "head", "", 1.5, None]),
    st.lists(st.sampled_from([*STAGES, 0, -1, 9]), max_size=3),
)
EXTRACTION = {
    "stage": STAGE,
    "pooling": st.sampled_from(["avg", "max", "avgmax", "flatten", "cls", "sum"]),
    "pooling__grid": st.sampled_from([1, 2, 3, 9, 0, 1.5]),
    "batch_size": st.sampled_from(["auto", 1, 2, 7, 0]),
    "image_size": st.sampled_from([None, 8, 9, (8, 12), 3, "8"]),
    "value_range": st.sampled_from(["auto", (0, 255), (0, 1), (-1, 300), (1, 0), 255]),
}


@st.composite
def some_of(draw, **parameters):
    """Change up to three parameters."""
    names = draw(st.lists(st.sampled_from([*parameters]), max_size=3, unique=True))
    return {name: draw(parameters[name]) for name in names}


@tried(120)
@given(X=images(shapes(SEVERAL)), parameters=some_of(**EXTRACTION))
def test_features_with_any_parameters(X, parameters):
    extractor = PretrainedFeatureExtractor(BACKBONE).set_params(**parameters)
    features = attempt(lambda: extractor.fit(X).transform(X))
    if features is None:
        return
    names = extractor.get_feature_names_out()
    assert features.shape == (len(X), len(names))
    assert np.isfinite(features).all()


GOOD_LABELS = hnp.arrays(np.int64, 6, elements=st.integers(-1, 2))
LABELS = st.one_of(
    *[GOOD_LABELS] * 6,
    hnp.arrays(np.float64, 6, elements=st.sampled_from([0.0, 1.0, 0.5, np.nan])),
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=6, max_size=6),
    st.lists(st.sampled_from(["a", 1, None, True]), min_size=6, max_size=6),
    hnp.arrays(np.bool_, 6),
    hnp.arrays(np.int64, (6, 2), elements=st.integers(0, 1)),
    st.just(None),
)
FREEZE = st.one_of(
    st.integers(-5, 5),
    st.floats(-0.5, 1.5),
    st.sampled_from(["all", "none", "auto", *STAGES, "layer9", "", None]),
)
TRAINING = {
    "freeze": FREEZE,
    "pooling__grid": st.sampled_from([1, 2, 9, 0]),
    "pooling": st.sampled_from(["auto", "avg", "max", "flatten", "cls", "sum"]),
    "head": st.sampled_from(["linear", "mlp", "hat"]),
    "training__head_init": st.sampled_from(["probe", "random", "zero"]),
    "lr": st.sampled_from([1e-3, 1.0, 0.0, -1.0, "slow"]),
    "batch_size": st.sampled_from(["auto", 1, 2, 7, 0]),
    "training__dropout": st.sampled_from([0.0, 0.5, 1.0]),
    "training__batch_norm": st.sampled_from(["eval", "train"]),
    "augment__mixup": st.sampled_from([0.0, 0.5, -1.0]),
    "early_stopping": st.booleans(),
    "training__weight_decay": st.sampled_from([0.0, 0.01, -1.0]),
    "augment__activations": st.sampled_from([False, True, ["hat"]]),
}


@tried(150)
@given(y=LABELS, parameters=some_of(**TRAINING), X=images(shapes(st.just(6))))
def test_classifier_of_anything(X, y, parameters):
    model = FineTunedClassifier(BACKBONE, max_epochs=1, C=1.0, random_state=0)
    model.set_params(**parameters)
    if attempt(lambda: model.fit(X, y)) is None:
        assert not hasattr(model, "backbone_")
        return
    probabilities = model.predict_proba(X)
    assert probabilities.shape == (len(X), len(model.classes_))
    assert np.isfinite(probabilities).all()
    predicted = model.predict(X)
    assert predicted.shape == np.shape(y)
    if predicted.ndim == 1:
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
        assert np.isin(predicted, model.classes_).all()


@tried(100)
@given(
    y=st.one_of(LABELS, hnp.arrays(np.float64, 6, elements=st.floats(-1e6, 1e6))),
    parameters=some_of(
        **TRAINING,
        loss=st.sampled_from(["squared_error", "huber", "quantile", "cubic"]),
        alpha=st.sampled_from(["auto", 0.0, 1.0, -1.0]),
    ),
    X=images(shapes(st.just(6))),
)
def test_regressor_of_anything(X, y, parameters):
    model = FineTunedRegressor(BACKBONE, max_epochs=1, random_state=0)
    model.set_params(**parameters)
    if attempt(lambda: model.fit(X, y)) is None:
        assert not hasattr(model, "backbone_")
        return
    predicted = model.predict(X)
    assert predicted.shape == np.shape(y) and predicted.dtype == np.float64
    assert np.isfinite(predicted).all()


@pytest.mark.parametrize("error", [RuntimeError("torch"), ValueError("torch" * 9)])
def test_attempt_finds_errors_of_others(error):
    def fail():
        raise error

    with pytest.raises((AssertionError, RuntimeError), match="torch"):
        attempt(fail)
