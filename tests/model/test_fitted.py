import pickle
import re

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from sktransfer import (
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedFeatureExtractor,
    config_context,
)
from sktransfer.backbones import ModelCard, load_backbone
from sktransfer.inputs import ImagePreprocessing

RANDOM = np.random.default_rng(0)
SIZE = (40, 71)  # neither square nor that of a model input
IMAGES = RANDOM.integers(0, 256, (12, *SIZE, 3)).astype(np.uint8)
NAMES = np.array(["bark", "leaf", "sand"] * 4)
IMAGES[NAMES == "bark"] //= 2
IMAGES[NAMES == "leaf", :20] //= 3
MANY = np.stack([NAMES == "bark", NAMES != "leaf"], axis=1).astype(int)
ROWS = RANDOM.normal(size=(30, 5)).astype(np.float32)
NUMBER = 1e6 + ROWS[:, 0]


def make_rows_network():
    return nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())


def make_map_network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 6, 3, 2), nn.ReLU()
    preprocessing = ImagePreprocessing((24, 24), 27, "bicubic", (0.4,) * 3, (0.2,) * 3)
    return load_backbone(nn.Sequential(*layers), preprocessing=preprocessing)


def fit(kind, backbone, X, y=None, **settings):
    settings = {"random_state": 0, **settings}
    if kind is not PretrainedFeatureExtractor:
        settings = {"max_epochs": 1, "lr": 1e-4, **settings}
    return kind(backbone).set_params(**settings).fit(X, y)


@pytest.fixture(autouse=True)
def _exact():
    """Round nothing that is kept, so that values can be compared."""
    with config_context(activation_dtype="float32", precision="float32"):
        yield


def lite(freeze):
    backbone = "efficientnet_lite0"
    return fit(
        FineTunedClassifier, backbone, IMAGES, NAMES, freeze=freeze, image_size=64
    )


def vit():
    backbone = load_backbone(
        "timm/test_vit", weights=None, image_size=32, random_state=0
    )
    settings = {"freeze": 4, "pooling": "cls", "head": "mlp"}
    return fit(FineTunedClassifier, backbone, IMAGES, NAMES, **settings)


def resnet():
    backbone = load_backbone(
        "timm/test_resnet", weights=None, image_size=32, random_state=0
    )
    settings = {"freeze": 3, "head": "cosine", "pooling": "avgmax", "pooling__grid": 2}
    return fit(FineTunedClassifier, backbone, IMAGES, MANY, **settings)


def maps(kind=FineTunedClassifier, y=NAMES, **settings):
    settings = {"pooling": "avgmax", "pooling__grid": 2, **settings}
    return fit(kind, make_map_network(), IMAGES, y, **settings)


def features():
    return maps(PretrainedFeatureExtractor, None, stage=["last", 1])


def rows(kind=FineTunedClassifier, y=NUMBER > 1e6, **settings):
    return fit(kind, make_rows_network, ROWS, y, **{"freeze": 1, **settings})


MODELS = {
    "features": features,
    "maps": maps,
    "multilabel": lambda: maps(y=MANY, head="mlp"),
    "adapter": lambda: maps(training__adapter="lora", freeze="none"),
    "two classes": rows,
    "one number": lambda: rows(FineTunedRegressor, NUMBER),
    "two numbers": lambda: rows(FineTunedRegressor, ROWS[:, :2], freeze="all"),
}
BIG = {
    "lite 5": lambda: lite(5),
    "lite all": lambda: lite("all"),
    "lite none": lambda: lite("none"),
    "vit": vit,
    "resnet": resnet,
}


def answer(model, X):
    """Return what the estimator says, and its name."""
    if isinstance(model, FineTunedClassifier):
        return model.predict_proba(X), "probabilities"
    if isinstance(model, FineTunedRegressor):
        return model.predict(X), "predictions"
    return model.transform(X), "features"


def samples_of(model):
    return IMAGES if model.preprocessing_.kind == "image" else ROWS


def check_torch(model):
    X = samples_of(model)
    expected, name = answer(model, X)
    module = model.to_torch()
    found = module(torch.from_numpy(X))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert module.output_name == name
    return module, X, expected


def check_export(model):
    module, X, expected = check_torch(model)
    image_size = SIZE if X is IMAGES else None
    program = torch.export.export(
        module,
        (module.example(2, image_size),),
        dynamic_shapes=({0: torch.export.Dim("n")},),
    )
    for n in (1, 2, 7):
        found = program.module()(torch.from_numpy(X[:n]))
        np.testing.assert_allclose(found, expected[:n], atol=1e-5)


def check_onnx(model, folder):
    X = samples_of(model)
    expected, name = answer(model, X)
    image_size = SIZE if X is IMAGES else None
    path = model.to_onnx(folder / "model.onnx", image_size=image_size)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,), (output,) = session.get_inputs(), session.get_outputs()
    assert output.name == name
    for n in (1, 2, 7):
        (found,) = session.run(None, {given.name: X[:n]})
        np.testing.assert_allclose(found, expected[:n], atol=1e-4)


@pytest.mark.parametrize("name", [*MODELS, "lite 5", "vit", "resnet"])
def test_module_computes_the_outputs_of_the_estimator(name):
    model = (MODELS | BIG)[name]()
    module, *_ = check_torch(model)
    if isinstance(model, FineTunedClassifier):
        assert module.classes_.tolist() == model.classes_.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("name", BIG)
def test_big_networks_can_be_exported(name):
    check_export(BIG[name]())


@pytest.mark.parametrize("name", ["features", "maps"])
def test_module_can_be_exported(name):
    check_export(MODELS[name]())


@pytest.mark.parametrize("name", ["features", "multilabel", "one number"])
def test_onnx_computes_the_outputs_of_the_estimator(name, tmp_path):
    check_onnx(MODELS[name](), tmp_path)


def test_model_card_is_in_the_file(tmp_path):
    model = rows()
    path = model.to_onnx(tmp_path / "model.onnx")
    held = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert ModelCard.from_json(held["model_card"]) == model.model_card_


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MODELS, *BIG])
def test_onnx_of_every_network(name, tmp_path):
    check_onnx((MODELS | BIG)[name](), tmp_path)


def test_module_takes_images_of_any_size():
    model = maps()
    module = model.to_torch()
    for size in ((24, 24), (9, 60), (100, 31)):
        images = RANDOM.integers(0, 256, (3, *size, 3)).astype(np.uint8)
        found = module(torch.from_numpy(images))
        np.testing.assert_allclose(found, model.predict_proba(images), atol=1e-5)


@pytest.mark.parametrize("name", ["features", "maps", "one number"])
def test_export_does_not_change_the_estimator(name):
    model = MODELS[name]()
    X = samples_of(model)
    before, attributes = answer(model, X)[0], {*vars(model)}
    module = model.to_torch()
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.zero_()
    np.testing.assert_array_equal(answer(model, X)[0], before)
    assert {*vars(model)} == attributes


@pytest.mark.parametrize(
    "kind", [PretrainedFeatureExtractor, FineTunedClassifier, FineTunedRegressor]
)
def test_not_fitted(kind, tmp_path):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        kind().to_torch()
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        kind().to_onnx(tmp_path / "model.onnx")


def test_model_without_a_head_has_no_scores():
    with pytest.raises(ValueError, match="^A model without a head has features, but"):
        features().model_.scores(None)


def test_path_is_checked_first(tmp_path, monkeypatch):
    model = rows()
    monkeypatch.setattr(FineTunedClassifier, "to_torch", None)
    with pytest.raises(ValueError, match=re.escape("which is a folder; add a name")):
        model.to_onnx(tmp_path)
    with pytest.raises(ValueError, match="in a folder that exists"):
        model.to_onnx(tmp_path / "missing" / "model.onnx")


class _Scaled(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)

    def forward(self, x):
        return self.linear(x).tanh()


def _tripled(self, x):
    return 3 * self.linear(x).tanh()


@pytest.mark.parametrize("freeze", ["all", 1])
def test_model_follows_code_of_its_network(freeze, monkeypatch):
    torch.manual_seed(0)
    network = nn.Sequential(_Scaled(5, 8), _Scaled(8, 6), _Scaled(6, 4))
    model = FineTunedClassifier(
        load_backbone(network), freeze=freeze, max_epochs=1, random_state=0
    ).fit(ROWS, ROWS[:, 0] > 0)
    before = model.predict_proba(ROWS)
    monkeypatch.setattr(_Scaled, "forward", _tripled)
    after = model.predict_proba(ROWS)
    assert np.abs(after - before).max() > 0.01
    again = pickle.loads(pickle.dumps(model)).predict_proba(ROWS)
    np.testing.assert_array_equal(again, after)
    scores = model.module_(torch.from_numpy(ROWS)).softmax(dim=1).detach()
    np.testing.assert_allclose(scores, after, atol=1e-4)


@pytest.mark.parametrize("freeze", ["all", 1])
@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "orthogonal"])
def test_model_of_parametrized_layers_is_pickled_exactly(freeze, kind):
    torch.manual_seed(0)
    add = getattr(nn.utils.parametrizations, kind)
    network = nn.Sequential(add(_Scaled(5, 8).linear), nn.Tanh(), add(nn.Linear(8, 6)))
    model = FineTunedClassifier(
        load_backbone(network), freeze=freeze, max_epochs=1, random_state=0
    ).fit(ROWS, ROWS[:, 0] > 0)
    again = pickle.loads(pickle.dumps(model))
    expected = model.predict_proba(ROWS)
    np.testing.assert_array_equal(again.predict_proba(ROWS), expected)


class _OfBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 2)

    def forward(self, x):
        return self.linear(x) - self.linear(x).mean(dim=0) / 2


class _Drawing(_OfBatch):
    def forward(self, x):
        return self.linear(nn.functional.dropout(x, 0.5))


class _Counting(_OfBatch):
    def forward(self, x):
        self.n_calls = getattr(self, "n_calls", 0) + 1
        return self.linear(x) * self.n_calls


@pytest.mark.parametrize("freeze", ["all", 0])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (_OfBatch, "depends on the other samples of the batch"),
        (_Drawing, "it draws from the generator of torch"),
        (_Counting, "a forward pass changes its attribute 'n_calls'"),
    ],
)
def test_impure_head_gets_samples_one_at_a_time(freeze, kind, reason):
    torch.manual_seed(0)
    model = FineTunedClassifier(
        load_backbone(nn.Sequential(nn.Linear(5, 8), nn.ReLU())),
        head=kind(),
        freeze=freeze,
        max_epochs=2,
        random_state=0,
    )
    with pytest.warns(
        UserWarning, match=f"a {kind.__name__}, one at a time: .*{reason}"
    ):
        model.fit(ROWS, ROWS[:, 0] > 0)
    whole = model.predict_proba(ROWS)
    np.testing.assert_array_equal(model.predict_proba(ROWS), whole)
    some = model.predict_proba(ROWS[10:15])  # equal up to the rounding of the features
    np.testing.assert_allclose(some, whole[10:15], rtol=1e-5)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(ROWS), whole)
    assert model.model_.network.head.training is False


def test_pure_head_of_ones_own_gives_no_warning():
    head = nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    backbone = load_backbone(nn.Sequential(nn.Linear(5, 8), nn.ReLU()))
    model = FineTunedClassifier(backbone, head=head, max_epochs=1, random_state=0)
    model.fit(ROWS, ROWS[:, 0] > 0)
    assert model.model_.network.impurity is None
