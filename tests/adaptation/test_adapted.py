import pickle
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn

from sktransfer import FineTunedClassifier, config_context
from sktransfer.activations import forward_passes, process_store
from sktransfer.adaptation import (
    MCC,
    MMD,
    AdaptationMethod,
    DomainAdaptedClassifier,
    RandomStyle,
    TargetStyle,
    list_methods,
)
from sktransfer.adaptation._methods import resolve_method
from sktransfer.training import Augmentation, Saver, TrainingRecipe
from tests.adaptation._domains_of_digits import (
    DOMAIN,
    INK,
    MASKED,
    NEW,
    ROWS,
    SOURCE,
    TARGET,
    Y_NEW,
    N,
    Y,
    classifier,
    make_network,
    outputs,
    regressor,
)

METHODS = list_methods()
JOINT = [m for m in METHODS if resolve_method(m).needs_source]
FREE = ["adabn", "shot", "centroids"]
OF_REGRESSORS = ["none", "adabn", "coral", "mmd", "dann"]
every_method = pytest.mark.parametrize(
    ("make", "method", "y"),
    [
        *(pytest.param(classifier, m, MASKED, id=m) for m in METHODS),
        *(pytest.param(regressor, m, INK, id=f"{m}-regressor") for m in OF_REGRESSORS),
    ],
)

IMAGES = load_digits(n_class=3)
X, LABELS = IMAGES.images[:20], IMAGES.target[:20]
BOTH = np.concatenate([X, 16 - IMAGES.images[30:50]])
BOTH_LABELS = np.concatenate([LABELS, np.full(20, -1)])


@pytest.fixture(autouse=True)
def _exact():
    """Round nothing that is stored, so that values can be compared."""
    with config_context(activation_dtype="float32"):
        yield


@cache
def fitted(make, method):
    """Fit a method once; tests must not change the result."""
    with config_context(activation_dtype="float32"):
        return make(method).fit(ROWS, MASKED if make is classifier else INK)


def lite(method, style="auto", **settings):
    """Return a classifier of images with the shipped weights."""
    common = {"freeze": 8, "max_epochs": 1, "image_size": 32, "value_range": (0, 16)}
    settings = {**common, "lr": 1e-4, "random_state": 0, **settings}
    return DomainAdaptedClassifier(FineTunedClassifier(**settings), method, style=style)


# What all methods have in common


@pytest.mark.parametrize(
    ("make", "method", "y"),
    [
        *(pytest.param(classifier, m, MASKED, id=m) for m in ("mcc", *FREE)),
        pytest.param(regressor, "mmd", INK, id="mmd-regressor"),
    ],
)
def test_labels_of_the_target_change_nothing(make, method, y):
    expected = outputs(fitted(make, method))
    garbage = y.copy()
    garbage[N:] = np.random.RandomState(1).choice([0, 1, 2, 7, 900], N)
    found = make(method).fit(ROWS, garbage, sample_domain=DOMAIN)
    np.testing.assert_array_equal(outputs(found), expected)
    if make is classifier:
        assert found.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("method", ["mcc", "mmd", *FREE])
def test_order_of_the_samples_changes_nothing(method):
    order = np.random.RandomState(0).permutation(2 * N)
    found = classifier(method)
    found.fit(ROWS[order], MASKED[order], sample_domain=DOMAIN[order])
    expected = outputs(fitted(classifier, method))
    np.testing.assert_allclose(outputs(found), expected, rtol=1e-4, atol=1e-5)


@every_method
def test_fit_sets_attributes(make, method, y):
    model = fitted(make, method)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(outputs(again), outputs(model))
    if method != "none":
        assert abs(outputs(model) - outputs(fitted(make, "none"))).max() > 1e-4
    before = make("none", freeze="all").fit(ROWS[:9], y[:9]).model_.backbone.module
    before, backbone = before.state_dict(), model.model_.backbone
    prefix = {*backbone.section("input", model.estimator_.boundary_).state_dict()}
    after = backbone.module.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert prefix and changed and not changed & prefix
    assert model.model_card_.trained["method"] == method
    assert model.model_card_.trained["target_samples"] == N
    if method in JOINT:
        assert model.history_["objective"].notna().all() and len(model.history_) == 2
    assert model.style_ is None  # rows have no style


def test_method_none_equals_fine_tuning_on_the_source():
    plain = clone(classifier("none").estimator).fit(SOURCE, Y)
    expected = plain.predict_proba(NEW)
    np.testing.assert_array_equal(outputs(fitted(classifier, "none")), expected)


def test_weight_of_zero_equals_method_none():
    expected = outputs(fitted(classifier, "none"))
    for method in JOINT:
        model = classifier(type(resolve_method(method))(weight=0.0))
        model.set_params(estimator__training__lr_schedule="cosine").fit(ROWS, MASKED)
        np.testing.assert_allclose(outputs(model), expected, rtol=1e-4)


def test_weights_of_the_target_change_nothing():
    weight = np.random.RandomState(0).uniform(size=2 * N)
    first = classifier("mmd").fit(ROWS, MASKED, weight)
    weight[N:] = 7.0
    again = classifier("mmd").fit(ROWS, MASKED, weight)
    np.testing.assert_array_equal(outputs(first), outputs(again))
    assert abs(outputs(first) - outputs(fitted(classifier, "mmd"))).max() > 1e-4


def test_several_source_and_target_domains():
    domain = np.concatenate([np.tile([1, 3], N // 2), np.tile([-1, -9], N // 2)])
    found = classifier("coral").fit(ROWS, MASKED, sample_domain=domain)
    expected = outputs(fitted(classifier, "coral"))
    np.testing.assert_array_equal(outputs(found), expected)


def test_methods_help_where_there_is_a_gap():
    def score(method):
        settings = {"max_epochs": 15, "freeze": "none"}
        model = classifier(method, **settings, random_state=3)
        return model.fit(ROWS, MASKED).score(NEW, Y_NEW)

    plain = score("none")
    for method in ("adabn", "shot", "mmd", "jmmd"):
        assert score(method) > plain + 0.1, method


@pytest.mark.parametrize("method", ["dann", "shot"])
def test_methods_combine_with_other_training_parameters(method):
    for settings in (
        {
            "freeze": "none",
            "max_epochs": 4,
            "head": "mlp",
            "training": TrainingRecipe(unfreeze_every=1, dropout=0.2),
        },
        {
            "early_stopping": True,
            "augment": Augmentation(mixup=0.3),
            "training": TrainingRecipe(adapter="lora", ema=0.9),
        },
    ):
        model = classifier(method, **settings).fit(ROWS, MASKED)
        assert np.isfinite(outputs(model)).all()


# Methods of others


class Record(AdaptationMethod):
    """Method that counts its objectives and records their progress."""

    objectives, progress = 0, []

    def make_objective(self, n_features, n_outputs, is_multilabel, seed):
        type(self).objectives += 1
        assert (n_features, n_outputs, is_multilabel) == (8, 3, False)
        return self.objective

    def objective(self, source, target, progress):
        self.progress.append(progress)
        return source.scores.sum() * 0


def test_phases_share_one_objective():
    settings = {"freeze": "none", "max_epochs": 4}
    settings["training"] = TrainingRecipe(unfreeze_every=1)
    model = classifier(Record(), **settings).fit(ROWS, MASKED)
    assert Record.objectives == 1
    n = len(Record.progress)
    np.testing.assert_allclose(Record.progress, np.arange(n) / n)
    assert model.model_card_.trained["method"] == "custom"


def distance(source, target, progress):
    return (source.features.mean(0) - target.features.mean(0)).square().sum()


class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, source, target, progress):
        return self.scale**2 * distance(source, target, progress)


def test_functions_and_modules_are_methods():
    plain = outputs(fitted(classifier, "none"))
    module = Learned()
    for method in (distance, module):
        model = classifier(method).fit(ROWS, MASKED)
        assert abs(outputs(model) - plain).max() > 1e-4
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(outputs(again), outputs(model))
    assert module.scale.item() == 1  # a copy is trained


# Adapting what was fitted, by the target alone


@pytest.mark.parametrize("method", FREE)
def test_adapt_after_fit_equals_adaptation_in_fit(method):
    later = classifier(method).fit(SOURCE, Y)
    kept = pickle.dumps(later)
    assert later.adapt(TARGET) is later
    expected = outputs(fitted(classifier, method))
    np.testing.assert_allclose(outputs(later), expected, rtol=1e-5, atol=1e-6)
    assert abs(outputs(later) - outputs(fitted(classifier, "none"))).max() > 1e-3
    again = outputs(pickle.loads(kept).adapt(TARGET))
    np.testing.assert_allclose(again, expected, rtol=1e-5, atol=1e-6)
    assert later.model_card_.trained["target_samples"] == N


def test_shot_keeps_the_head_and_continues():
    model = classifier("shot").fit(SOURCE, Y)
    before = [p.detach().clone() for p in model.module_.network.head.parameters()]
    model.adapt(TARGET)
    after = model.module_.network.head.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.requires_grad for p in model.module_.network.head.parameters())
    assert model.history_["epoch"].tolist() == [1, 2, 3, 4]
    kept = outputs(model)
    with pytest.raises(ValueError, match="NaN"):
        model.adapt(np.full_like(TARGET, np.nan))
    np.testing.assert_array_equal(outputs(model), kept)


def test_adabn_starts_from_the_source_each_time():
    model = classifier("adabn").fit(SOURCE, Y).adapt(NEW)
    again = classifier("adabn").fit(SOURCE, Y).adapt(TARGET).adapt(NEW)
    np.testing.assert_array_equal(outputs(model), outputs(again))
    for rows in (TARGET[:1], TARGET[[0, 0]]):
        message = f"or more that differ. Got {len(rows)}, of which 1 differ: give more"
        with pytest.raises(ValueError, match=message):
            model.adapt(rows)
    np.testing.assert_array_equal(outputs(model), outputs(again))


def test_source_only_can_be_adapted_afterwards():
    model = classifier("none").fit(SOURCE, Y)
    with pytest.raises(ValueError, match=r"measured in `fit` with that method\. Fit"):
        model.set_params(method="adabn").adapt(TARGET)
    model.set_params(method="shot").adapt(TARGET)
    expected = classifier("shot").fit(SOURCE, Y).adapt(TARGET)
    np.testing.assert_array_equal(outputs(model), outputs(expected))


def test_source_statistics_are_dropped_when_weights_change():
    model = classifier("adabn").fit(SOURCE, Y)
    model.set_params(method="shot").adapt(TARGET)
    with pytest.raises(ValueError, match=r"measured in `fit` with that method\. Fit"):
        model.set_params(method="adabn").adapt(TARGET)


def test_adapt_without_what_it_needs_raises():
    model = classifier("none", freeze="all").fit(SOURCE, Y)
    with pytest.raises(ValueError, match="`freeze='all'`, which left none in `fit`: f"):
        model.set_params(method="shot").adapt(TARGET)
    model = classifier("none").fit(SOURCE, np.c_[Y == 0, Y != 1].astype(int))
    with pytest.raises(ValueError, match="needs classes that exclude each other"):
        model.set_params(method="shot").adapt(TARGET)
    for method in ("none", *JOINT, distance):
        name = getattr(method, "__name__", method)
        message = rf"one of \['centroids', 'adabn', 'shot'\]\. Got '{name}'"
        with pytest.raises(ValueError, match=message):
            model.set_params(method=method).adapt(TARGET)


# From the store


def test_frozen_prefix_computes_each_image_once():
    for method in ("none", "mcc"):
        process_store().clear()
        forward_passes().clear()
        few = BOTH[10:30], BOTH_LABELS[10:30]  # ten of each domain
        model = lite(method, freeze="all").fit(*few)
        passes = forward_passes().items()
        passed = sum(n for (_, start, _), n in passes if start == "input")
        n_views = 4 * 10 if method in JOINT else 0
        assert passed == n_views + (10 if method == "none" else 20)
        forward_passes().clear()
        clone(model).set_params(estimator__max_epochs=2).fit(*few)
        assert sum(forward_passes().values()) == 0


# Refused


def test_invalid_target_raises():
    message = r"`method='mmd'` needs target samples in `fit`\. Got none: give"
    with pytest.raises(ValueError, match=message):
        classifier("mmd").fit(SOURCE, Y)
    with pytest.raises(ValueError, match="labelled samples of a source domain. Got"):
        classifier("mmd").fit(ROWS, MASKED, sample_domain=-1)
    y = INK.copy()
    y[[3, 5]] = np.nan
    message = r"must have a label\. Got a masked one for 2 samples \(3, 5\): l"
    with pytest.raises(ValueError, match=message):
        regressor("mmd").fit(ROWS, y, sample_domain=DOMAIN)


def test_masked_validation_labels_raise():
    message = r"^`y_val` must hold a label for each sample\. Got a masked one, or NaN, "
    with pytest.raises(ValueError, match=message):
        classifier("mmd").fit(ROWS, MASKED, X_val=ROWS, y_val=MASKED)
    model = classifier("mmd").fit(ROWS, MASKED, X_val=NEW, y_val=Y_NEW)
    assert "valid_loss" in model.history_


def test_methods_that_need_stages_raise_without_them():
    for method in METHODS:
        if not resolve_method(method).needs_stages:
            continue
        message = rf"`method='{method}'` changes the stages .* `freeze='all'`, which l"
        with pytest.raises(ValueError, match=message):
            classifier(method, freeze="all").fit(ROWS, MASKED)
    for method in ("none", "coral", "adabn"):
        model = classifier(method, freeze="auto").fit(ROWS, MASKED)
        assert model.estimator_.freeze_depth_ == 1


def make_plain_network():
    return nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 8))


def test_adabn_without_batch_norm_raises():
    with pytest.raises(ValueError, match="needs BatchNorm layers .* which has none"):
        classifier("adabn", make_plain_network).fit(ROWS, MASKED)


# Interrupted


@contextmanager
def counted(after=None):
    """Count the epochs of fits, and interrupt a fit after a number of them."""
    epochs, save = [], Saver.save

    def save_and_count(self, net, generator):
        save(self, net, generator)
        epochs.append(len(net.history))
        if len(epochs) == after:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Saver, "save", save_and_count)
        yield epochs


def interrupt(model, X, y, after=3):
    with counted(after), pytest.raises(KeyboardInterrupt):
        clone(model).fit(X, y)


def interrupt_and_resume(model, X, y):
    """Return the model after a second fit that resumes, and its number of epochs."""
    interrupt(model, X, y)
    with counted() as epochs:
        return model.fit(X, y), len(epochs)


@pytest.mark.parametrize("method", ["dann", "mcc"])
def test_interrupted_fit_equals_uninterrupted_fit(method, tmp_path):
    settings = {"freeze": "none", "max_epochs": 6}
    settings["training"] = TrainingRecipe(unfreeze_every=2, dropout=0.2)
    whole = classifier(method, **settings).fit(ROWS, MASKED)
    model = classifier(method, checkpoint=tmp_path, **settings)
    resumed, n_epochs = interrupt_and_resume(model, ROWS, MASKED)
    assert n_epochs < 6
    np.testing.assert_array_equal(outputs(resumed), outputs(whole))


def test_checkpoint_depends_on_target_and_method(tmp_path):
    model = classifier("mmd", checkpoint=tmp_path, max_epochs=5)
    interrupt(model, ROWS, MASKED)
    other = np.concatenate([SOURCE, TARGET + 0.1])
    with counted() as epochs:
        model.fit(other, MASKED)
    assert len(epochs) == 5
    with counted() as epochs:
        model.set_params(method=MMD(weight=0.5)).fit(ROWS, MASKED)
    assert len(epochs) == 5


# Towards the style of the target


def test_images_move_towards_the_target():
    process_store().clear()
    model = lite("mcc", "target", freeze="all").fit(BOTH, BOTH_LABELS)
    found = model.predict_proba(X)
    expected = TargetStyle(value_range=(0, 16)).fit(BOTH[20:], X_source=X)
    for name in ("target_rows_", "source_rows_"):
        np.testing.assert_array_equal(
            np.sort(getattr(model.style_, name), axis=0),
            np.sort(getattr(expected, name), axis=0),
        )
    given = Augmentation(model.style_, n_views=4)
    twin = lite("mcc", style=None, freeze="all", augment=given)
    twin.fit(BOTH, BOTH_LABELS)
    np.testing.assert_allclose(twin.predict_proba(X), found, atol=1e-6)
    plain = lite("mcc", style=None, freeze="all").fit(BOTH, BOTH_LABELS)
    assert plain.style_ is None and abs(plain.predict_proba(X) - found).max() > 1e-4
    own = lite("mcc", freeze="all", augment="crop").fit(BOTH[15:25], BOTH_LABELS[15:25])
    assert own.style_ is None
    forward_passes().clear()
    model.set_params(method=MCC(weight=2.0)).fit(BOTH, BOTH_LABELS)
    assert sum(forward_passes().values()) == 0
    order = np.random.RandomState(0).permutation(len(BOTH))
    model.set_params(method="mcc").fit(BOTH[order], BOTH_LABELS[order])
    np.testing.assert_allclose(model.predict_proba(X), found, atol=1e-5)


def test_style_is_trained_on_without_a_method():
    augment = Augmentation(n_views=2)
    model = lite("none", style="target", freeze="all", augment=augment)
    model.fit(BOTH, BOTH_LABELS)
    plain = FineTunedClassifier(
        image_size=32,
        value_range=(0, 16),
        random_state=0,
        freeze="all",
        augment=Augmentation(model.style_, n_views=2),
    ).fit(X, LABELS)
    expected = plain.predict_proba(BOTH)
    np.testing.assert_allclose(model.predict_proba(BOTH), expected, atol=1e-6)
    assert model.estimator.augment.views == "auto"  # the user's object is not changed
    model.set_params(style="auto", estimator__augment=None).fit(BOTH, BOTH_LABELS)
    assert model.style_ is None


def test_by_default_source_images_have_random_styles():
    model = lite("centroids", freeze="all").fit(BOTH, BOTH_LABELS)
    assert isinstance(model.style_, RandomStyle)
    given = Augmentation(RandomStyle(), n_views=4)
    twin = lite("centroids", None, freeze="all", augment=given).fit(BOTH, BOTH_LABELS)
    expected = twin.predict_proba(X)
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-6)
    later = lite("centroids", "random", freeze="all").fit(X, LABELS).adapt(BOTH[20:])
    np.testing.assert_allclose(later.predict_proba(X), expected, atol=1e-6)
    assert lite("centroids", freeze="all", augment="crop").fit(X, LABELS).style_ is None
    assert lite("none", freeze="all").fit(BOTH, BOTH_LABELS).style_ is None
    assert lite("centroids", freeze="all").fit(X, LABELS).style_ is None
    same = np.concatenate([X, X])
    assert lite("mcc", freeze="all").fit(same, BOTH_LABELS).style_ is None


def test_samples_without_weight_have_no_style():
    weight = np.repeat([1.0, 0.0, 1.0], [15, 5, 20])
    model = lite("mcc", "target", freeze="all").fit(BOTH, BOTH_LABELS, weight)
    assert len(model.style_.source_rows_) == 15


@pytest.mark.parametrize(
    ("model", "need"),
    [
        (
            lite("none", "target", augment="crop"),
            "an `estimator` whose `augment` draws no",
        ),
        (
            lite("mcc", "target", augment=Augmentation(tta=2)),
            "an `estimator` without `tta",
        ),
        (classifier("mcc").set_params(style="target"), "samples that are images"),
    ],
    ids=["augment", "tta", "rows"],
)
def test_style_without_what_it_needs_raises(model, need):
    data = (ROWS, MASKED) if need.endswith("images") else (BOTH, BOTH_LABELS)
    message = rf"`style='target'` changes the style of .*, which needs {need}.*\. Set"
    with pytest.raises(ValueError, match=message):
        model.fit(*data)
    with pytest.raises(ValueError, match="which needs target samples in `fit`. Set"):
        lite("none", "target").fit(X, LABELS)


def test_interrupted_fit_draws_on_the_views_of_both_domains(tmp_path):
    settings = {"augment": "crop", "max_epochs": 4}
    few = BOTH[::5], BOTH_LABELS[::5]
    whole = lite("mmd", **settings).fit(*few)
    model = lite("mmd", checkpoint=tmp_path, **settings)
    resumed, n_epochs = interrupt_and_resume(model, *few)
    assert n_epochs == 1
    expected = whole.predict_proba(BOTH)
    np.testing.assert_array_equal(resumed.predict_proba(BOTH), expected)


# Inputs of other kinds


class Labelled(torch.utils.data.Dataset):
    def __init__(self, images, targets):
        self.images, self.targets = images, targets

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return Image.fromarray((15 * self.images[i]).astype(np.uint8)), self.targets[i]


def test_paths_lists_and_datasets_agree(tmp_path):
    images, labels = BOTH[10:30], BOTH_LABELS[10:30]
    paths = [str(tmp_path / f"{i}.png") for i in range(20)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray((15 * image).astype(np.uint8)).save(path)
    model = lite("mcc", value_range="auto", freeze="all", style=None)
    expected = model.fit(paths, labels).predict_proba(paths)
    data = Labelled(images, labels.tolist())
    for X, y, domain in (
        (data, None, None),
        (Labelled(images, [*labels[:10], *([2] * 10)]), None, np.repeat([1, -1], 10)),
        ([data[i] for i in range(20)], None, None),
    ):
        found = clone(model).fit(X, y, sample_domain=domain)
        assert found.classes_.tolist() == [0, 1, 2]
        np.testing.assert_allclose(found.predict_proba(paths), expected, atol=1e-4)


def test_absent_attributes_are_not_defined():
    model = fitted(classifier, "mmd")
    assert not hasattr(model, "feature_names_in_") and model.n_features_in_ == 64
    assert not hasattr(clone(model), "classes_")
    assert model.transform(NEW).shape == (len(NEW), 8)
    assert len(model.get_feature_names_out()) == 8
    tensor = torch.from_numpy(NEW[:2].astype(np.float32))
    assert model.to_torch()(tensor).shape[0] == 2
    assert make_network is model.estimator.backbone
