import enum

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.utils.class_weight import compute_sample_weight
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn

from sktransfer import (
    FineTunedClassifier,
    PretrainedFeatureExtractor,
    config_context,
)
from sktransfer.backbones import load_backbone
from sktransfer.inputs import Samples, as_samples, iter_batches
from tests._networks import SmallNetwork

BACKBONE = load_backbone(SmallNetwork)

DIGITS = load_digits(n_class=3)
X, Y = DIGITS.images[:36], DIGITS.target[:36]
X_NEW, Y_NEW = DIGITS.images[36:136], DIGITS.target[36:136]
ROWS, ROWS_NEW = DIGITS.data[:36] / 16, DIGITS.data[36:136] / 16


def make_network():
    return nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())


def make_wide_network():
    return nn.Sequential(nn.LazyLinear(32), nn.ReLU())


def tiny(**settings):
    """Classify rows with a network of two stages."""
    settings = {"max_epochs": 2, "lr": 1e-2, "random_state": 0, **settings}
    return FineTunedClassifier(make_network).set_params(**settings)


def lite(**settings):
    """Classify images with the shipped weights."""
    settings = {"max_epochs": 1, "image_size": 64, "value_range": (0, 16), **settings}
    return FineTunedClassifier(random_state=0).set_params(**settings)


def small(backbone=BACKBONE, **settings):
    """Classify images with a small network of nine stages."""
    settings = {"max_epochs": 1, "value_range": (0, 16), "random_state": 0, **settings}
    return FineTunedClassifier(backbone).set_params(**settings)


@pytest.fixture(autouse=True)
def _exact():
    """Round nothing that is kept, so that values can be compared."""
    with config_context(activation_dtype="float32", precision="float32"):
        yield


@pytest.fixture(scope="module")
def pretrained():
    return load_backbone("efficientnet_lite0", image_size=64)


# What is frozen


@pytest.mark.parametrize(
    ("freeze", "boundary", "depth"),
    [
        ("none", "input", 0),
        (-1, "blocks.6", 8),
        (0.9, "blocks.6", 8),
        ("blocks.5.1", "blocks.5.1", 6),
        ("auto", "blocks.1", 3),
        ("all", "features", 9),
    ],
)
def test_frozen_tensors_are_the_pretrained_ones(pretrained, freeze, boundary, depth):
    model = lite(freeze=freeze, training__batch_norm="train").fit(X, Y)
    assert (model.boundary_, model.freeze_depth_) == (boundary, depth)
    prefix = model.backbone_.section("input", boundary)
    frozen = {*dict(prefix.named_parameters()), *dict(prefix.named_buffers())}
    before = pretrained.module.state_dict()
    suffix = dict(model.net_.module_.suffix.named_parameters())
    for name, value in model.backbone_.module.state_dict().items():
        if name in frozen:
            assert torch.equal(value, before[name]), name
        elif name in suffix:
            assert not torch.equal(value, before[name]), name
    assert bool(suffix) == (boundary != "features")
    assert not any(p.requires_grad for p in prefix.parameters())
    assert all(p.requires_grad for p in suffix.values())


@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_statistics_of_trained_stages(pretrained, batch_norm):
    model = lite(freeze=8, training__batch_norm=batch_norm).fit(X, Y)
    before = pretrained.module.state_dict()
    buffers = dict(model.net_.module_.suffix.named_buffers())
    same = [torch.equal(value, before[name]) for name, value in buffers.items()]
    assert len(same) == 3 and all(same) == (batch_norm == "eval")
    assert any(same) == (batch_norm == "eval")


def test_module_given_as_backbone_is_never_changed():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU()).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model = tiny(backbone=module, freeze="none", training__batch_norm="train").fit(
        ROWS, Y
    )
    assert model.backbone is module and module.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.requires_grad for p in module.parameters())
    assert not torch.equal(model.backbone_.module[0].weight, before["0.weight"])


def test_unknown_freeze():
    with pytest.raises(ValueError, match="`freeze` must be one of .*Got 'blocks.77'"):
        lite(freeze="blocks.77").fit(X, Y)
    with pytest.raises(ValueError, match=r"an int in \[-9, 9\].*Got 10\."):
        lite(freeze=10).fit(X, Y)


# Messages


def test_labels_that_cannot_be_sorted():
    kind = enum.Enum("Kind", "a b c")
    labels = [[kind.a, kind.b, kind.c][c] for c in Y]
    with pytest.raises(TypeError, match="^`y` must hold labels that can be"):
        tiny().fit(ROWS, labels)


def test_log_of_probabilities():
    model = tiny(freeze="all").fit(ROWS, Y)
    found = model.predict_log_proba(ROWS_NEW)
    np.testing.assert_allclose(np.exp(found), model.predict_proba(ROWS_NEW))
    with torch.no_grad():
        model.module_.network.head.bias[0] += 1e4
    assert np.isfinite(model.predict_log_proba(ROWS_NEW)).all()


# The probe


@pytest.mark.parametrize("n_classes", [2, 3])
def test_probe_is_logistic_regression(n_classes):
    kept, new = n_classes > Y, n_classes > Y_NEW
    probe = lite(freeze="all", C=0.5).fit(X[kept], Y[kept])
    extractor = PretrainedFeatureExtractor(image_size=64, value_range=(0, 16))
    features = extractor.fit_transform(X[kept])
    reference = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000)
    reference.fit(features.astype(np.float64), Y[kept])
    new_features = extractor.transform(X_NEW[new])
    expected = reference.predict_proba(new_features)
    np.testing.assert_allclose(probe.predict_proba(X_NEW[new]), expected, atol=1e-4)
    np.testing.assert_array_equal(
        probe.predict(X_NEW[new]), reference.predict(new_features)
    )
    coef = probe.module_.network.head.weight.detach().numpy()
    coef = coef[1:] - coef[:1] if n_classes == 2 else coef
    np.testing.assert_allclose(coef, reference.coef_, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_probe_is_a_good_classifier(precision):
    with config_context(precision=precision):
        model = lite(freeze="all").fit(X, Y)
    assert model.score(X_NEW, Y_NEW) >= 0.95


@pytest.mark.parametrize("freeze", [1, "all"])
def test_fitted_C_gives_the_same_model(freeze):
    auto = tiny(freeze=freeze).fit(ROWS, Y)
    fixed = tiny(freeze=freeze, C=auto.C_).fit(ROWS, Y)
    assert fixed.C_ == auto.C_
    np.testing.assert_array_equal(
        fixed.predict_proba(ROWS_NEW), auto.predict_proba(ROWS_NEW)
    )


def test_training_starts_from_the_probe():
    probe = tiny(freeze="all").fit(ROWS, Y)
    model = tiny(freeze=1, lr=1e-9).fit(ROWS, Y)
    np.testing.assert_allclose(
        model.predict_proba(ROWS_NEW), probe.predict_proba(ROWS_NEW), atol=1e-4
    )
    model = tiny(freeze=1, lr=1e-9, training__head_init="random").fit(ROWS, Y)
    difference = model.predict_proba(ROWS_NEW) - probe.predict_proba(ROWS_NEW)
    assert abs(difference).max() > 0.01


def test_training_lowers_the_loss():
    history = tiny(freeze="none", max_epochs=30).fit(ROWS, Y).history_
    assert history["train_loss"].iloc[-1] < 0.5 * history["train_loss"].iloc[0]


# Predictions


@pytest.mark.parametrize("freeze", ["all", 1])
@pytest.mark.parametrize(
    "labels",
    [
        np.array(["two", "zero", "one"]),
        np.array(["two", "zero", "one"], dtype=object),
        np.array([7, -1, 3]),
        np.array([False, True, True]),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_labels_keep_their_type(freeze, labels):
    y = labels[Y]
    model = tiny(freeze=freeze, C=100).fit(ROWS, y)
    classes = np.unique(y)
    assert model.classes_.dtype == y.dtype and model.classes_.tolist() == [*classes]
    predicted = model.predict(ROWS_NEW)
    assert predicted.dtype == y.dtype and {*predicted} <= {*classes}
    best = model.predict_proba(ROWS_NEW).argmax(1)
    assert predicted.tolist() == classes[best].tolist()
    assert model.score(ROWS, y) > 0.5


@pytest.mark.parametrize("freeze", ["all", 1])
def test_probabilities_and_scores(freeze):
    model = tiny(freeze=freeze).fit(ROWS, Y)
    probabilities = model.predict_proba(ROWS_NEW)
    assert probabilities.dtype == np.float64 and probabilities.shape == (100, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
    scores = model.decision_function(ROWS_NEW)
    assert scores.shape == (100, 3) and scores.dtype == np.float64
    np.testing.assert_allclose(softmax(scores, axis=1), probabilities)


def test_score_of_two_classes_is_that_of_the_second():
    kept = Y < 2
    model = tiny(freeze=1).fit(ROWS[kept], Y[kept])
    scores = model.decision_function(ROWS_NEW)
    assert scores.shape == (100,)
    probabilities = model.predict_proba(ROWS_NEW)
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), probabilities[:, 1])
    assert np.array_equal(model.predict(ROWS_NEW) == 1, scores > 0)


def test_prediction_does_not_depend_on_other_rows():
    model = tiny(freeze=1).fit(ROWS, Y)
    alone = [model.decision_function(row[None])[0] for row in ROWS_NEW]
    np.testing.assert_array_equal(model.decision_function(ROWS_NEW), alone)


def test_random_state_fixes_everything():
    models = [
        tiny(freeze=1, training__head_init="random", random_state=seed).fit(ROWS, Y)
        for seed in (0, 0, 1)
    ]
    first, again, other = [model.predict_proba(ROWS_NEW) for model in models]
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 1e-3


def test_order_of_the_samples_changes_nothing():
    order = np.random.RandomState(0).permutation(len(Y))
    model = tiny(freeze=1, batch_size=8).fit(ROWS, Y)
    shuffled = tiny(freeze=1, batch_size=8).fit(ROWS[order], Y[order])
    np.testing.assert_allclose(
        model.predict_proba(ROWS_NEW), shuffled.predict_proba(ROWS_NEW), rtol=1e-6
    )


def test_score_warns_of_labels_that_were_not_in_fit():
    """As unstratified folds of a sorted folder do."""
    pairs = [(image, int(label)) for image, label in zip(X, Y, strict=True)]
    known = [pair for pair in pairs if pair[1] < 2]
    model = small(freeze="all", C=1.0).fit(known)
    assert model.score(known) == model.score([x for x, _ in known], Y[Y < 2])
    n_unseen = (Y == 2).sum()
    message = f"{n_unseen} of 36 samples have labels that were not in `fit`.*: 2. If"
    for samples in [(pairs,), (X, Y)]:
        with pytest.warns(UserWarning, match=message):
            assert model.score(*samples) <= 1 - n_unseen / 36


def test_score_names_a_few_of_the_labels_that_were_not_in_fit():
    names = np.array([f"class {y}" for y in range(9)])
    model = small(freeze="all", C=1.0).fit(X, names[Y])
    y = names[np.arange(36) % 9]
    message = "24 of 36 .*: 'class 3', .*, 'class 7' and 1 more. If"
    with pytest.warns(UserWarning, match=message):
        model.score(X, y)


def test_folds_of_sorted_samples_are_warned_of():
    order, model = np.argsort(Y, kind="stable"), small(freeze="all", C=1.0)
    with pytest.warns(UserWarning, match="samples are a fold, stratify the folds"):
        scores = cross_val_score(model, X[order], Y[order], cv=KFold(3))
    assert scores.max() < 0.2


def test_fit_hashes_each_sample_once(monkeypatch):
    hashed, digest = [], Samples.digest
    monkeypatch.setattr(
        Samples, "digest", lambda self, i: hashed.append(i) or digest(self, i)
    )
    small(freeze=8).fit(X, Y)
    assert sorted(hashed) == list(range(len(X)))


@pytest.mark.parametrize("freeze", ["all", "none"])
def test_fit_touches_no_global_generator(freeze):
    torch_state = torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    tiny(freeze=freeze, training__head_init="random").fit(ROWS, Y).predict(ROWS)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    same = np.random.get_state()[1] == numpy_state  # noqa: NPY002
    assert same.all()


# Weights of samples and classes


@pytest.mark.parametrize("freeze", ["all", 1])
def test_weights_of_one_change_nothing(freeze):
    plain = tiny(freeze=freeze).fit(ROWS, Y)
    weighted = tiny(freeze=freeze).fit(ROWS, Y, sample_weight=np.ones(len(Y)))
    np.testing.assert_array_equal(
        plain.predict_proba(ROWS_NEW), weighted.predict_proba(ROWS_NEW)
    )


@pytest.mark.parametrize("freeze", ["all", 1])
@pytest.mark.parametrize("class_weight", ["balanced", {0: 3.0, 2: 0.5}])
def test_class_weight_is_a_sample_weight(freeze, class_weight):
    y = np.where(np.arange(len(Y)) % 4, Y, 0)
    weight = compute_sample_weight(class_weight, y)
    by_class = tiny(freeze=freeze, class_weight=class_weight).fit(ROWS, y)
    by_sample = tiny(freeze=freeze).fit(ROWS, y, sample_weight=weight)
    plain = tiny(freeze=freeze).fit(ROWS, y)
    probabilities = by_class.predict_proba(ROWS_NEW)
    np.testing.assert_allclose(
        probabilities, by_sample.predict_proba(ROWS_NEW), atol=1e-6
    )
    assert abs(probabilities - plain.predict_proba(ROWS_NEW)).max() > 1e-3


@pytest.mark.parametrize("freeze", ["all", 1])
def test_weight_zero_removes_and_weight_two_repeats_a_sample(freeze):
    weight = np.random.RandomState(0).randint(0, 3, len(Y))
    weighted = tiny(freeze=freeze, batch_size=8).fit(ROWS, Y, sample_weight=weight)
    repeated = tiny(freeze=freeze, batch_size=8)
    repeated.fit(ROWS.repeat(weight, axis=0), Y.repeat(weight))
    np.testing.assert_allclose(
        weighted.predict_proba(ROWS_NEW), repeated.predict_proba(ROWS_NEW), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("freeze", "head_init"), [("all", "probe"), (1, "probe"), (1, "random")]
)
def test_class_without_weight_is_never_predicted(freeze, head_init):
    weight = np.where(Y == 2, 0.0, 1.0)
    settings = {"freeze": freeze, "training__head_init": head_init, "max_epochs": 20}
    model = tiny(**settings).fit(ROWS, Y, sample_weight=weight)
    assert model.classes_.tolist() == [0, 1, 2]
    assert not np.isin(2, model.predict(ROWS_NEW))
    without = tiny(**settings).fit(ROWS[Y != 2], Y[Y != 2])
    if head_init == "probe":
        np.testing.assert_allclose(
            model.predict_proba(ROWS_NEW)[:, :2],
            without.predict_proba(ROWS_NEW),
            atol=1e-5,
        )
    with pytest.raises(ValueError, match="at least two classes among the samples"):
        tiny().fit(ROWS, Y, sample_weight=np.where(Y == 2, 1.0, 0.0))


# Attributes


def test_history_of_training():
    history = tiny(freeze=1, max_epochs=3).fit(ROWS, Y).history_
    assert isinstance(history, pd.DataFrame)
    assert history["epoch"].tolist() == [1, 2, 3]
    assert {"train_loss", "dur"} <= {*history.columns}


def test_history_of_the_probe():
    model = tiny(freeze="all").fit(ROWS, Y)
    assert model.history_.columns.tolist() == ["epoch", "train_loss", "n_iter"]
    loss = -log_softmax(model.decision_function(ROWS), axis=1)[range(36), Y].mean()
    assert model.history_["train_loss"].tolist() == pytest.approx([loss], rel=1e-5)


@pytest.mark.parametrize(("freeze", "pooling"), [("all", "auto"), (8, "max")])
def test_module_goes_from_model_inputs_to_scores(freeze, pooling):
    model = small(freeze=freeze, pooling=pooling).fit(X, Y)
    samples = as_samples(X_NEW[:8], model.preprocessing_, value_range=(0, 16))
    ((_, batch),) = iter_batches(samples, model.preprocessing_, 8)
    with torch.inference_mode():
        scores = model.module_(model.preprocessing_.to_input(batch)).numpy()
    expected = model.decision_function(X_NEW[:8])
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("freeze", ["all", 1])
def test_net_goes_from_activations_to_probabilities(freeze):
    model = tiny(freeze=freeze).fit(ROWS, Y)
    assert isinstance(model.net_, NeuralNet)
    assert model.net_.module_ is model.module_.network
    with torch.inference_mode():
        z = model.module_.prefix(torch.from_numpy(ROWS_NEW).float())
    np.testing.assert_allclose(
        model.net_.predict_proba(z), model.predict_proba(ROWS_NEW), rtol=1e-5
    )
    assert model.net_.history[:, "train_loss"] == [*model.history_["train_loss"]]


@pytest.mark.parametrize(
    ("freeze", "n"), [("all", 27), (1, 136 + 27), ("none", 1040 + 136 + 27)]
)
def test_n_trainable_parameters(freeze, n):
    assert tiny(freeze=freeze).fit(ROWS, Y).n_trainable_parameters_ == n


def test_pooling_determines_the_features_of_the_head():
    model = small(freeze="all", pooling="avgmax", pooling__grid=2).fit(X, Y)
    assert model.module_.network.head.in_features == 2 * 4 * 32
    with pytest.raises(ValueError, match="`pooling='cls'` needs a class token"):
        small(freeze="all", pooling="cls").fit(X, Y)


def test_parameters_set_after_fit_change_no_prediction():
    model = small(freeze="all", pooling="avg").fit(X, Y)
    expected = model.predict_proba(X_NEW[:5])
    model.set_params(pooling="max", freeze="none", pooling__grid=2)
    np.testing.assert_array_equal(model.predict_proba(X_NEW[:5]), expected)


def test_callbacks_of_skorch_are_called():
    class Recorder(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.history.record("mine", len(net.history))

    model = tiny(freeze=1, callbacks=[("recorder", Recorder())]).fit(ROWS, Y)
    assert model.history_["mine"].tolist() == [1, 2]
    assert clone(model).callbacks[0][0] == "recorder"


def test_dataset_in_cross_validation():
    dataset = torch.utils.data.TensorDataset(
        torch.from_numpy(X).float() / 16, torch.from_numpy(Y)
    )
    model = small(freeze="all").set_params(value_range="auto")
    scores = cross_val_score(model, dataset, Y, cv=2, error_score="raise")
    np.testing.assert_array_equal(scores, cross_val_score(model, X / 16, Y, cv=2))
    assert model.fit(dataset).score(dataset) == model.score(X / 16, Y)


def test_labels_of_a_dataset():
    class Labelled(torch.utils.data.Dataset):
        targets = Y.tolist()

        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            return X[i], Y[i]

    model = small(freeze="all").fit(Labelled())
    expected = small(freeze="all").fit(X, Y)
    np.testing.assert_array_equal(
        model.predict_proba(X_NEW[:5]), expected.predict_proba(X_NEW[:5])
    )


# Around the estimator


def test_grid_search_over_backbone():
    grid = {"backbone": [make_network, make_wide_network]}
    search = GridSearchCV(tiny(freeze="all"), grid, cv=2, error_score="raise")
    search.fit(ROWS, Y)
    assert len({*search.cv_results_["mean_test_score"]}) == 2
    assert search.best_params_ == {"backbone": make_wide_network}
    best = search.best_estimator_
    assert best.backbone_.module[0].out_features == 32
    model = clone(best).set_params(backbone=make_network).fit(ROWS, Y)
    assert model.backbone_.module[0].out_features == 16


def test_grid_search_over_names_of_backbones():
    grid = {"backbone": ["timm/test_resnet", "timm/test_vit"]}
    search = GridSearchCV(
        lite(freeze="all", weights=None, C=1.0),
        grid,
        cv=[(np.arange(12), np.arange(12, 36))],
        error_score="raise",
        refit=False,
    ).fit(X, Y)
    assert len({*search.cv_results_["mean_test_score"]}) == 2


# Errors


def test_not_fitted():
    with pytest.raises(NotFittedError, match="FineTunedClassifier instance"):
        lite().predict(X)


def test_y_is_needed():
    with pytest.raises(ValueError, match="`y` is needed, as the samples"):
        lite().fit(X)


@pytest.mark.parametrize(
    ("model", "data"), [(small(), X), (tiny(), ROWS)], ids=["images", "rows"]
)
def test_y_that_cannot_be_learned(model, data):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(data, Y[:-1])
    with pytest.raises(ValueError, match="at least two classes .* Got one class: 'a'"):
        model.fit(data, np.array(["a"] * len(Y), dtype=object))
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        model.fit(data, Y + 0.5)
    with pytest.raises(ValueError, match="y should be a 1d array"):
        model.fit(data, np.stack([Y, Y], axis=1))


def test_weights_that_cannot_be_used():
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(3,\)"):
        tiny().fit(ROWS, Y, sample_weight=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_w"):
        tiny().fit(ROWS, Y, sample_weight=np.where(Y == 1, -1.0, 1.0))


@pytest.mark.parametrize(
    "changes",
    [
        {"freeze": 1.5},
        {"pooling": "mean"},
        {"training__head_init": "zero"},
        {"C": 0},
        {"max_epochs": 0},
        {"lr": 0},
        {"training__backbone_lr_ratio": -1},
        {"training__weight_decay": -1},
        {"training__batch_norm": "on"},
        {"class_weight": "even"},
    ],
)
def test_parameters_are_validated(changes):
    (name,) = changes
    *group, name = name.split("__")
    owner = "TrainingRecipe" if group else "FineTunedClassifier"
    with pytest.raises(ValueError, match=f"The '{name}' parameter of {owner} must"):
        tiny(**changes).fit(ROWS, Y)
