import copy
import io
import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sktransfer import (
    FineTunedClassifier,
    FineTunedRegressor,
    PretrainedFeatureExtractor,
    config_context,
)
from sktransfer.backbones import load_backbone
from tests.test_classifier import DIGITS, ROWS, ROWS_NEW, Y, make_network, tiny

IMAGES, LABELS = DIGITS.images[:18], DIGITS.target[:18]
NEW = DIGITS.images[36:42]
SIZE = {"image_size": 32, "value_range": (0, 16), "random_state": 0}
RESNET = "timm/test_resnet"  # small; its weights are random here
BY_NAME = {
    "features": PretrainedFeatureExtractor(stage=["stem", 3], **SIZE),
    "head": FineTunedClassifier(freeze="all", C=1.0, **SIZE),
    "suffix": FineTunedClassifier(freeze=8, max_epochs=1, **SIZE),
    "everything": FineTunedClassifier(freeze="none", max_epochs=1, **SIZE),
    "regression": FineTunedRegressor(freeze=8, max_epochs=1, **SIZE),
}
OF_A_MODULE = {
    "features": PretrainedFeatureExtractor(make_network, random_state=0),
    "head": tiny(freeze="all"),
    "suffix": tiny(freeze=1),
    "regression": FineTunedRegressor(
        make_network, freeze=1, max_epochs=1, lr=1e-2, random_state=0
    ),
}
COPIERS = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "joblib": lambda model: joblib.load(io.BytesIO(dumped(model))),
}
slim = pytest.mark.usefixtures("slim_pickles")
EACH_OF_A_MODULE = pytest.mark.parametrize("name", [*OF_A_MODULE])


def dumped(model, **settings):
    joblib.dump(model, file := io.BytesIO(), **settings)
    return file.getvalue()


def answer(model, X):
    """What a model says of samples, as far as it is no rounded label."""
    last = model[-1] if hasattr(model, "steps") else model
    names = ("predict_proba", "predict", "transform")
    return getattr(model, next(n for n in names if hasattr(last, n)))(X)


def weights_of(model):
    weights = {**model.backbone_.module.state_dict()}
    if hasattr(model, "module_"):
        weights |= model.module_.state_dict()
    return {name: tensor.clone() for name, tensor in weights.items()}


@pytest.fixture
def slim_pickles():
    with config_context(slim_pickles=True):
        yield


@pytest.fixture(scope="module")
def fitted():
    """Return a function that fits an estimator by its name, once."""
    models = {}

    def fit(name):
        if name not in models:
            models[name] = clone(BY_NAME[name]).fit(IMAGES, LABELS)
        return models[name]

    return fit


# Whole


@EACH_OF_A_MODULE
@pytest.mark.parametrize("copier", [*COPIERS])
def test_copies_predict_the_same_and_do_not_change_the_model(name, copier):
    model = clone(OF_A_MODULE[name]).fit(ROWS, Y)
    expected = answer(clone(OF_A_MODULE[name]).fit(ROWS, Y), ROWS_NEW)
    for _ in range(2):  # of a model that was not used, and of one that was
        before = {**vars(model)}
        again = COPIERS[copier](model)
        assert all(vars(model)[k] is v for k, v in before.items())
        assert vars(model).keys() == before.keys() == vars(again).keys()
        np.testing.assert_array_equal(answer(again, ROWS_NEW), expected)
        np.testing.assert_array_equal(answer(model, ROWS_NEW), expected)
        shared = {p.data_ptr() for p in model.backbone_.module.parameters()}
        copied = {p.data_ptr() for p in again.backbone_.module.parameters()}
        assert shared.isdisjoint(copied)
    if hasattr(model, "net_"):
        assert again.net_.module_ is again.module_.network
        pd.testing.assert_frame_equal(again.history_, model.history_)
    again.fit(ROWS, Y)
    np.testing.assert_array_equal(answer(again, ROWS_NEW), expected)


@EACH_OF_A_MODULE
def test_copies_of_what_is_not_fitted(name):
    model = OF_A_MODULE[name]
    expected = answer(clone(model).fit(ROWS, Y), ROWS_NEW)
    for copier in [*COPIERS.values(), clone]:
        again = copier(model)
        assert repr(again.get_params()) == repr(model.get_params())
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            answer(again, ROWS)
        np.testing.assert_array_equal(answer(again.fit(ROWS, Y), ROWS_NEW), expected)


def test_whole_pickle_holds_each_weight_once(fitted):
    model = fitted("suffix")
    n_bytes = 4 * model.backbone_.n_parameters
    data = pickle.dumps(model)
    assert n_bytes < len(data) < 1.05 * n_bytes
    np.testing.assert_array_equal(
        answer(pickle.loads(data), NEW),
        answer(model, NEW),
    )


def test_pickling_an_extractor_does_not_copy_its_network():
    model = PretrainedFeatureExtractor(RESNET, weights=None, stage=[1, 4], **SIZE)
    twin = pickle.loads(pickle.dumps(model.fit(IMAGES)))
    assert model.backbone_._module is None
    assert twin.backbone_.fingerprint == model.backbone_.owner("conv1").fingerprint


def test_pickle_of_a_search(slim_pickles):
    model = FineTunedClassifier(freeze="all", C=1.0, **SIZE)
    search = GridSearchCV(model, {"C": [0.1, 1.0]}, cv=2).fit(IMAGES, LABELS)
    twin = pickle.loads(data := pickle.dumps(search))
    assert len(data) < 100_000
    assert twin.best_params_ == search.best_params_
    np.testing.assert_array_equal(twin.predict(NEW), search.predict(NEW))


# Without the frozen weights


@slim
@pytest.mark.parametrize(
    ("name", "copier"),
    [(name, "pickle") for name in BY_NAME] + [("suffix", "joblib")],
)
def test_slim_copies_predict_the_same(name, copier, fitted):
    model, before = fitted(name), weights_of(fitted(name))
    expected = answer(model, NEW)
    again = COPIERS[copier](model)
    np.testing.assert_array_equal(answer(again, NEW), expected)
    assert vars(again).keys() == vars(model).keys()
    assert again.preprocessing_ == model.preprocessing_
    after, copied = weights_of(model), weights_of(again)
    assert before.keys() == after.keys() == copied.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(torch.equal(before[k], copied[k]) for k in before)


@slim
def test_slim_pickle_has_the_size_of_what_was_trained(fitted):
    assert len(pickle.dumps(fitted("features"))) < 3_000
    assert len(pickle.dumps(fitted("head"))) < 30_000
    n_bytes = 4 * fitted("suffix").n_trainable_parameters_
    assert n_bytes < len(pickle.dumps(fitted("suffix"))) < n_bytes + 60_000


@slim
@pytest.mark.parametrize("name", ["head", "suffix", "regression"])
def test_slim_copies_keep_tables_and_flags(name, fitted):
    model = fitted(name)
    again = pickle.loads(pickle.dumps(model))
    pd.testing.assert_frame_equal(again.history_, model.history_)
    pd.testing.assert_frame_equal(again.pass_report_, model.pass_report_)
    assert again.net_.history[:, "train_loss"] == model.net_.history[:, "train_loss"]
    assert again.net_.module_ is again.module_.network
    flags = [
        {n: p.requires_grad for n, p in m.module_.named_parameters()}
        for m in (again, model)
    ]
    assert flags[0] == flags[1]
    assert not any(m.training for m in again.module_.modules())


SETTINGS = {
    "mlp": {
        "head": "mlp",
        "training__dropout": 0.2,
        "pooling": "max",
        "pooling__grid": 2,
    },
    "cosine": {"head": "cosine", "freeze": "all"},
    "lora": {
        "training__adapter": "lora",
        "augment__activations": True,
        "augment__mixup": 0.2,
    },
    "names": {
        "freeze": "layer3",
        "image_size": (32, 40),
        "training__batch_norm": "train",
    },
}


@slim
@pytest.mark.parametrize("name", [*SETTINGS])
def test_slim_copy_trains_further_as_the_model_does(name):
    settings = {"freeze": 4, "max_epochs": 1, **SIZE, **SETTINGS[name]}
    model = FineTunedClassifier(RESNET, weights=None).set_params(**settings)
    model.fit(IMAGES, LABELS)
    again = pickle.loads(pickle.dumps(model))
    model.set_params(lr=1e-3).partial_fit(IMAGES, LABELS)
    again.set_params(lr=1e-3).partial_fit(IMAGES, LABELS)
    np.testing.assert_array_equal(answer(again, NEW), answer(model, NEW))


@slim
def test_random_weights_are_kept():
    settings = {**SIZE, "random_state": 3, "weights": None}
    model = PretrainedFeatureExtractor(RESNET, **settings).fit(IMAGES)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(answer(again, NEW), answer(model, NEW))
    assert again.backbone_.stage_names == model.backbone_.stage_names


@pytest.fixture
def checkpoint(tmp_path):
    """Return the path of other weights for the shipped architecture."""
    path = tmp_path / "weights.pt"
    backbone = load_backbone(RESNET, weights=None, random_state=1)
    torch.save(backbone.module.state_dict(), path)
    return path


@slim
def test_checkpoint_is_read_again_and_compared(checkpoint):
    settings = {"weights": checkpoint, "freeze": "all", "C": 1.0, **SIZE}
    model = FineTunedClassifier(RESNET, **settings)
    data = pickle.dumps(model.fit(IMAGES, LABELS))
    assert len(data) < 30_000
    np.testing.assert_array_equal(answer(pickle.loads(data), NEW), answer(model, NEW))
    state = torch.load(checkpoint, weights_only=True)
    state["conv1.0.weight"][0, 0, 0, 0] += 1
    torch.save(state, checkpoint)
    expected = model.backbone_.weights_fingerprint("features")
    text = (
        f"The frozen weights of '{RESNET}' with weights='{checkpoint}', up "
        "to 'features', are not those that the estimator was fitted with: expected "
        f"the fingerprint {expected}, got [0-9a-f]{{32}}. Install the version or put "
        "back the file that they came from, or pickle again where they are, with "
        "`sktransfer.config_context\\(slim_pickles=False\\)`."
    )
    with pytest.raises(ValueError, match=text):
        pickle.loads(data)
    checkpoint.unlink()
    text = (
        r"This pickle holds no frozen weights \(`slim_pickles=True`\), and "
        f"'{RESNET}' with weights='{checkpoint}' cannot be loaded here: "
        "There is no checkpoint file .* Make these weights available, or pickle again"
    )
    with pytest.raises(OSError, match=text):
        pickle.loads(data)


@slim
def test_weights_above_the_boundary_may_differ(checkpoint):
    settings = {"weights": checkpoint, "freeze": 4, "max_epochs": 1, **SIZE}
    model = FineTunedClassifier(RESNET, **settings)
    data = pickle.dumps(model.fit(IMAGES, LABELS))
    expected = answer(model, NEW)
    state = torch.load(checkpoint, weights_only=True)
    state["layer4.0.conv1.weight"] += 1
    torch.save(state, checkpoint)
    np.testing.assert_array_equal(answer(pickle.loads(data), NEW), expected)


@slim
def test_backbone_that_cannot_be_loaded(fitted):
    state = fitted("head").__getstate__()
    state["model_"]["backbone"]["backbone"] = "efficientnet_lite9"
    twin = object.__new__(FineTunedClassifier)
    with pytest.raises(ValueError, match="'efficientnet_lite9' .* cannot be loaded"):
        twin.__setstate__(state)


@slim
@EACH_OF_A_MODULE
def test_backbone_that_has_no_name_is_not_slim(name):
    model = clone(OF_A_MODULE[name]).fit(ROWS, Y)
    kind = type(model).__name__
    text = (
        f"A pickle with `slim_pickles=True` must be of a {kind} whose `backbone` was "
        "given by name, and its `weights` by name or path, since it is loaded again by "
        "these. Got Sequential, which came as an object or with a state dict. "
        r"Pickle it whole with `sktransfer.config_context\(slim_pickles=False\)`."
    )
    with pytest.raises(ValueError, match=text):
        pickle.dumps(model)
    np.testing.assert_array_equal(
        answer(copy.deepcopy(model), ROWS), answer(model, ROWS)
    )
    pickle.loads(pickle.dumps(clone(model))).fit(ROWS, Y)


@slim
def test_head_given_as_a_module_is_not_slim():
    head = nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.Linear(4, 3))
    model = FineTunedClassifier(head=head, freeze="all", max_epochs=1, **SIZE)
    model.fit(IMAGES, LABELS)
    text = (
        "A pickle with `slim_pickles=True` must be of an estimator whose `head` is one "
        r"of \['linear', 'mlp', 'cosine'\]. Got Sequential, a module of your own. "
        r"Pickle it whole with `sktransfer.config_context\(slim_pickles=False\)`."
    )
    with pytest.raises(ValueError, match=text):
        pickle.dumps(model)


@slim
def test_backbone_of_a_fitted_estimator_has_no_name(fitted):
    model = FineTunedClassifier(
        FrozenEstimator(fitted("suffix")), freeze="all", value_range=(0, 16)
    )
    model.fit(IMAGES, LABELS)
    with pytest.raises(ValueError, match="must be of a FineTunedClassifier whose"):
        pickle.dumps(model)


@slim
def test_parameters_set_after_fit_are_ignored():
    model = FineTunedClassifier(freeze=8, max_epochs=1, **SIZE).fit(IMAGES, LABELS)
    expected = answer(model, NEW)
    model.set_params(
        backbone="torchvision/resnet18", weights=None, image_size=64, freeze="all"
    ).set_params(
        pooling="max", head="mlp", training__dropout=0.5, training__batch_norm="train"
    )
    again = pickle.loads(pickle.dumps(model))
    assert repr(again.get_params()) == repr(model.get_params())
    np.testing.assert_array_equal(answer(again, NEW), expected)


@slim
def test_slim_inside_other_estimators(fitted):
    extractor = clone(BY_NAME["features"])
    model = make_pipeline(extractor, LogisticRegression()).fit(IMAGES, LABELS)
    data = pickle.dumps([model, FrozenEstimator(fitted("head"))])
    assert len(data) < 50_000
    again, frozen = pickle.loads(data)
    np.testing.assert_array_equal(answer(again, NEW), answer(model, NEW))
    np.testing.assert_array_equal(frozen.predict(NEW), fitted("head").predict(NEW))


@slim
def test_arrays_may_be_mapped_from_the_file(fitted, tmp_path):
    joblib.dump(fitted("suffix"), tmp_path / "model")
    again = joblib.load(tmp_path / "model", mmap_mode="r")
    np.testing.assert_array_equal(answer(again, NEW), answer(fitted("suffix"), NEW))
    again.partial_fit(IMAGES, LABELS)


# Elsewhere

SCRIPT = """
import sys, joblib, numpy as np
X, *models = map(joblib.load, sys.argv[2:])
joblib.dump([model.predict_proba(X) for model in models], sys.argv[1])
"""


def test_another_process_predicts_the_same(fitted, tmp_path):
    model, paths = fitted("suffix"), [str(tmp_path / name) for name in "PXms"]
    joblib.dump(NEW, paths[1])
    joblib.dump(model, paths[2], compress=3)
    with config_context(slim_pickles=True):
        joblib.dump(model, paths[3])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-c", SCRIPT, *paths]
    subprocess.run(command, check=True, env=environment, timeout=120)
    for found in joblib.load(paths[0]):
        np.testing.assert_array_equal(found, model.predict_proba(NEW))


class Reached(pickle.Pickler):
    """Notes the devices of the tensors in a pickle instead of writing them."""

    def __init__(self):
        super().__init__(io.BytesIO())
        self.devices = []

    def persistent_id(self, thing):
        if not isinstance(thing, torch.Tensor):
            return None
        self.devices.append(thing.device.type)
        return "tensor"


def move_to_pretended_gpu(modules):
    """Put tensors that say that they are on a GPU, and hold nothing, into layers."""
    for layer in {layer for module in modules for layer in module.modules()}:
        for tensors in (layer._parameters, layer._buffers):
            for name, tensor in tensors.items():
                there = torch.empty(tensor.shape, device="cuda", dtype=tensor.dtype)
                is_parameter = isinstance(tensor, nn.Parameter)
                tensors[name] = nn.Parameter(there) if is_parameter else there


def test_pickle_made_on_a_gpu_holds_tensors_of_the_cpu_once():
    network = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    model = tiny(backbone=network, head=nn.Linear(4, 3), freeze=1).fit(ROWS, Y)
    modules = [model.backbone_.module, model.module_, network, model.head]
    with FakeTensorMode(allow_non_fake_inputs=True):
        move_to_pretended_gpu(modules)
        (reached := Reached()).dump(model)
        assert reached.devices == ["cpu"] * (9 + 2 + 9 + 2)
        assert {t.device.type for m in modules for t in m.parameters()} == {"cuda"}


def test_device_of_the_fit_that_this_machine_lacks():
    model = tiny(freeze=1).fit(ROWS, Y)
    expected = answer(model, ROWS_NEW)
    data = pickle.dumps(model.set_params(device="xpu:7"))
    text = (
        "This FineTunedClassifier was fitted with device='xpu:7', which this machine "
        "does not have. It predicts on the CPU."
    )
    with pytest.warns(UserWarning, match=text) as caught:
        again = pickle.loads(data)
    assert len(caught) == 1
    assert again.device == "xpu:7"
    for twin in (again, copy.deepcopy(again)):
        np.testing.assert_array_equal(answer(twin, ROWS_NEW), expected)
    with pytest.warns(UserWarning, match=text):  # wherever it is loaded
        pickle.loads(pickle.dumps(again))
    with pytest.raises(ValueError, match="`device` must be 'auto', 'acc"):
        again.fit(ROWS, Y)
    with pytest.raises(ValueError, match="`device` must be 'auto', 'acc"):
        answer(again.set_params(device="xpu:8"), ROWS_NEW)
    pickle.loads(pickle.dumps(clone(again)))  # not fitted: says so when it is


# skops

TRUSTED = {
    "features": "sktransfer._features.PretrainedFeatureExtractor",
    "regression": "sktransfer._regressor.FineTunedRegressor",
}


@slim
@pytest.mark.parametrize("name", ["features", "head", "suffix", "regression"])
def test_skops(name, fitted):
    model = fitted(name)
    data = skops.io.dumps(model)
    trusted = [TRUSTED.get(name, "sktransfer._classifier.FineTunedClassifier")]
    assert skops.io.get_untrusted_types(data=data) == trusted
    again = skops.io.loads(data, trusted=trusted)
    np.testing.assert_array_equal(answer(again, NEW), answer(model, NEW))
    again.fit(IMAGES, LABELS)


@slim
def test_skops_of_a_pipeline():
    words = np.array(["zero", "one", "two"])[LABELS]
    model = make_pipeline(clone(BY_NAME["features"]), LogisticRegression())
    data = skops.io.dumps(model.fit(IMAGES, words))
    assert skops.io.get_untrusted_types(data=data) == [TRUSTED["features"]]
    again = skops.io.loads(data, trusted=[TRUSTED["features"]])
    np.testing.assert_array_equal(again.predict(NEW), model.predict(NEW))


@slim
def test_skops_of_names_and_of_rows():
    frame = pd.DataFrame(DIGITS.data[:18]).add_prefix("pixel")
    words = np.array(["zero", "one", "two"], dtype=object)[LABELS]
    model = FineTunedClassifier(image_shape=(8, 8), freeze="all", C=1.0, **SIZE)
    data = skops.io.dumps(model.fit(frame, words))
    trusted = skops.io.get_untrusted_types(data=data)
    assert trusted == ["sktransfer._classifier.FineTunedClassifier"]
    again = skops.io.loads(data, trusted=trusted)
    assert again.feature_names_in_.tolist() == frame.columns.tolist()
    assert again.predict(frame).tolist() == model.predict(frame).tolist()


# Fitted or not


@EACH_OF_A_MODULE
def test_what_counts_as_fitted(name):
    model = clone(OF_A_MODULE[name])
    bad = {"stage": 99} if name == "features" else {"freeze": 99}
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        check_is_fitted(model)
    with pytest.raises(ValueError, match="99"):
        clone(model).set_params(**bad).fit(ROWS, Y)
    failed = clone(model).set_params(**bad)
    with pytest.raises(ValueError, match="99"):
        failed.fit(ROWS, Y)
    assert not failed.__sklearn_is_fitted__()
    model.fit(ROWS, Y)
    assert model.__sklearn_is_fitted__()
    assert pickle.loads(pickle.dumps(model)).__sklearn_is_fitted__()
    assert not clone(model).__sklearn_is_fitted__()


@EACH_OF_A_MODULE
def test_fit_that_fails_leaves_what_was_fitted_before(name):
    model = clone(OF_A_MODULE[name]).fit(ROWS, Y)
    expected, good = answer(model, ROWS_NEW), model.get_params()
    bad = {"stage": 99} if name == "features" else {"freeze": 99}
    with pytest.raises(ValueError, match="99"):
        model.set_params(**bad).fit(ROWS[:, :9], Y)
    assert model.__sklearn_is_fitted__()
    assert model.n_features_in_ == 64
    np.testing.assert_array_equal(answer(model.set_params(**good), ROWS_NEW), expected)
