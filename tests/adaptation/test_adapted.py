import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn

from sktransfer import FineTunedClassifier, config_context
from sktransfer.activations import forward_passes, process_store
from sktransfer.adaptation import DomainAdaptedClassifier, TargetStyle
from sktransfer.adaptation._methods import (
    CLASSIFIER_METHODS,
    NEEDS_CLASSES,
    NEEDS_STAGES,
    REGRESSOR_METHODS,
    SOURCE_FREE,
)
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
    regressor,
)
from tests.test_resume import counted, interrupt, interrupt_and_resume

METHODS = [m for m in CLASSIFIER_METHODS if m != "none"]
JOINT = [m for m in METHODS if m not in SOURCE_FREE]
EVERY = [
    *(pytest.param(classifier, m, MASKED, id=m) for m in CLASSIFIER_METHODS),
    *(pytest.param(regressor, m, INK, id=f"{m}-numbers") for m in REGRESSOR_METHODS),
]
every_method = pytest.mark.parametrize(("make", "method", "y"), EVERY)

IMAGES = load_digits(n_class=3)
X, LABELS = IMAGES.images[:30], IMAGES.target[:30]
BOTH = np.concatenate([X, 16 - IMAGES.images[30:60]])
BOTH_LABELS = np.concatenate([LABELS, np.full(30, -1)])


def lite(method, **settings):
    """Classify images with the shipped weights."""
    common = {"freeze": 7, "max_epochs": 2, "image_size": 32, "value_range": (0, 16)}
    common["lr"] = 1e-4
    return DomainAdaptedClassifier(
        method=method, random_state=0, **{**common, **settings}
    )


@pytest.fixture(autouse=True)
def _exact():
    """Round nothing that is kept, so that values can be compared."""
    with config_context(activation_dtype="float32"):
        yield


def outputs(model):
    return getattr(model, "predict_proba", model.predict)(NEW)


# What target labels do: nothing


@every_method
def test_labels_of_the_target_change_nothing(make, method, y):
    masked = outputs(make(method).fit(ROWS, y, sample_domain=DOMAIN))
    garbage = y.copy()
    garbage[N:] = np.random.RandomState(1).choice([0, 1, 2, 7, 900], N)
    found = make(method).fit(ROWS, garbage, sample_domain=DOMAIN)
    np.testing.assert_array_equal(outputs(found), masked)
    if make is classifier:
        assert found.classes_.tolist() == [0, 1, 2]


@every_method
def test_masked_labels_are_the_target_without_domains(make, method, y):
    expected = outputs(make(method).fit(ROWS, y, sample_domain=DOMAIN))
    np.testing.assert_array_equal(outputs(make(method).fit(ROWS, y)), expected)


def test_weights_of_the_target_change_nothing():
    weight = np.random.RandomState(0).uniform(size=2 * N)
    first = classifier("mmd").fit(ROWS, MASKED, weight)
    weight[N:] = 7.0
    again = classifier("mmd").fit(ROWS, MASKED, weight)
    np.testing.assert_array_equal(outputs(first), outputs(again))
    other = classifier("mmd").fit(ROWS, MASKED)
    assert abs(outputs(first) - outputs(other)).max() > 1e-4


@every_method
def test_order_of_the_samples_changes_nothing(make, method, y):
    order = np.random.RandomState(0).permutation(2 * N)
    expected = outputs(make(method).fit(ROWS, y, sample_domain=DOMAIN))
    found = make(method).fit(ROWS[order], y[order], sample_domain=DOMAIN[order])
    np.testing.assert_allclose(outputs(found), expected, rtol=1e-4, atol=1e-5)


# What they do


def test_source_only_is_fine_tuning_on_the_source():
    found = classifier("none").fit(ROWS, MASKED)
    plain = FineTunedClassifier(
        make_network, freeze=1, max_epochs=2, lr=1e-2, batch_size=16, random_state=0
    )
    expected = plain.fit(SOURCE, Y).predict_proba(NEW)
    np.testing.assert_array_equal(found.predict_proba(NEW), expected)


@every_method
def test_methods_differ_and_repeat(make, method, y):
    found, again = (outputs(make(method).fit(ROWS, y)) for _ in range(2))
    np.testing.assert_array_equal(found, again)
    if method != "none":
        assert abs(found - outputs(make("none").fit(ROWS, y))).max() > 1e-4


@pytest.mark.parametrize("method", JOINT)
def test_weight_of_zero_is_source_only(method):
    plain = classifier("none", lr_schedule="cosine").fit(ROWS, MASKED)
    settings = {"lr_schedule": "cosine", "adaptation_weight": 0.0}
    found = classifier(method, **settings).fit(ROWS, MASKED)
    np.testing.assert_allclose(outputs(found), outputs(plain), rtol=1e-4)


@pytest.mark.parametrize("method", ["adabn", "shot", "coral", "mmd", "jmmd"])
def test_method_helps_where_there_is_a_gap(method):
    settings = {"max_epochs": 15, "freeze": "none"}
    plain = classifier("none", **settings).fit(ROWS, MASKED).score(NEW, Y_NEW)
    found = classifier(method, **settings).fit(ROWS, MASKED).score(NEW, Y_NEW)
    assert found > plain + 0.1


@pytest.mark.parametrize("method", JOINT)
def test_history_has_what_the_method_minimises(method):
    history = classifier(method).fit(ROWS, MASKED).history_
    assert history["objective"].notna().all() and len(history) == 2


@every_method
def test_frozen_tensors_stay(make, method, y):
    model = make(method).fit(ROWS, y)
    before = make("none", freeze="all").fit(ROWS, y).backbone_.module.state_dict()
    prefix = {*model.backbone_.section("input", model.boundary_).state_dict()}
    after = model.backbone_.module.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert prefix and changed and not changed & prefix


@every_method
def test_pickles_predict_the_same(make, method, y):
    model = make(method).fit(ROWS, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(outputs(again), outputs(model))


@pytest.mark.parametrize("method", ["dann", "shot", "adabn"])
@pytest.mark.parametrize(
    "settings",
    [
        {"unfreeze_every": 1, "freeze": "none", "max_epochs": 4},
        {"adapter": "lora"},
        {"mixup": 0.3, "ema": 0.9},
        {"early_stopping": True, "validation_fraction": 0.3},
        {"head": "mlp", "dropout": 0.2},
        {"batch_norm": "train"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_methods_with_other_ways_to_train(method, settings):
    model = classifier(method, **settings).fit(ROWS, MASKED)
    assert np.isfinite(outputs(model)).all()


@pytest.mark.parametrize("make", [classifier, regressor])
def test_phases_share_what_is_minimised(make, monkeypatch):
    functions, progress = [], []

    class Record(nn.Module):
        def forward(self, own, others, share):
            progress.append(share)
            return own.scores.sum() * 0

    def record(*args, **kwargs):
        functions.append(Record())
        return functions[-1]

    monkeypatch.setattr("sktransfer.adaptation._adapted.make_function", record)
    settings = {"unfreeze_every": 1, "freeze": "none", "max_epochs": 4}
    model = make("dann", **settings).fit(ROWS, MASKED if make is classifier else INK)
    assert len(functions) == 1
    n = len(progress)
    np.testing.assert_allclose(progress, np.arange(n) / n)
    assert not {"_function", "_spans"} & {*vars(model)}


def test_interrupted_phases_go_on_with_the_same_discriminator(tmp_path):
    settings = {"unfreeze_every": 2, "freeze": "none", "max_epochs": 6}
    whole = classifier("dann", **settings).fit(ROWS, MASKED)
    model = classifier("dann", checkpoint=tmp_path, **settings)
    resumed, _ = interrupt_and_resume(model, ROWS, MASKED)
    np.testing.assert_array_equal(outputs(resumed), outputs(whole))


def test_several_domains_of_each_kind():
    domain = np.concatenate([np.tile([1, 3], N // 2), np.tile([-1, -9], N // 2)])
    found = classifier("coral").fit(ROWS, MASKED, sample_domain=domain)
    expected = classifier("coral").fit(ROWS, MASKED)
    np.testing.assert_array_equal(outputs(found), outputs(expected))


# From the store


@pytest.mark.parametrize("method", CLASSIFIER_METHODS)
def test_frozen_prefix_sees_each_image_once(method):
    process_store().clear()
    forward_passes().clear()
    model = lite(method).fit(BOTH, BOTH_LABELS)
    passed = sum(n for (_, start, _), n in forward_passes().items() if start == "input")
    n_views = 4 * len(X) if method in JOINT else 0
    assert passed == n_views + (len(X) if method == "none" else len(BOTH))
    forward_passes().clear()
    twin = clone(model).set_params(adaptation_weight=0.3, max_epochs=3)
    twin.fit(BOTH, BOTH_LABELS)
    assert sum(forward_passes().values()) == 0


# Random views


@pytest.mark.parametrize("n_views", [None, 2])
@pytest.mark.parametrize("method", JOINT)
def test_views_of_both_domains(method, n_views):
    settings = {"augment": "crop", "n_views": n_views, "max_epochs": 1, "freeze": 8}
    model = lite(method, **settings).fit(BOTH[::3], BOTH_LABELS[::3])
    assert np.isfinite(model.predict_proba(BOTH[:3])).all()


@pytest.mark.parametrize("n_views", [None, 2])
def test_interrupted_fit_draws_on_the_views_of_both_domains(n_views, tmp_path):
    settings = {"augment": "crop", "n_views": n_views, "max_epochs": 4, "freeze": 8}
    few = BOTH[::3], BOTH_LABELS[::3]
    whole = lite("mmd", **settings).fit(*few)
    model = lite("mmd", checkpoint=tmp_path, **settings)
    resumed, n_epochs = interrupt_and_resume(model, *few)
    assert n_epochs == 1
    np.testing.assert_array_equal(
        resumed.predict_proba(BOTH), whole.predict_proba(BOTH)
    )


# Refused


@pytest.mark.parametrize("method", JOINT)
def test_no_target(method):
    message = rf"`method='{method}'` needs target samples in `fit`\. Got none: give"
    with pytest.raises(ValueError, match=message):
        classifier(method).fit(SOURCE, Y)


@pytest.mark.parametrize("bad", [-1, None])
def test_source_whose_label_is_masked(bad):
    y = MASKED.astype(object)
    y[3] = bad
    message = r"must have a label\. Got a masked one for sample 3: leave them out, or"
    with pytest.raises(ValueError, match=message):
        classifier("mmd").fit(ROWS, y, sample_domain=DOMAIN)


def test_numbers_of_the_source_that_are_masked():
    y = INK.copy()
    y[[3, 5]] = np.nan
    message = r"must have a label\. Got a masked one for 2 samples \(3, 5\): l"
    with pytest.raises(ValueError, match=message):
        regressor("mmd").fit(ROWS, y, sample_domain=DOMAIN)


@pytest.mark.parametrize("domain", [None, DOMAIN])
def test_minus_one_is_a_class_beside_none(domain):
    y = np.concatenate([Y - 1, np.full(N, None)])
    model = classifier("mmd").fit(ROWS, y, sample_domain=domain)
    assert model.classes_.tolist() == [-1, 0, 1]
    expected = classifier("mmd").fit(ROWS, MASKED)
    np.testing.assert_array_equal(outputs(model), outputs(expected))


@pytest.mark.parametrize("kind", [object, str])
def test_minus_one_among_texts_is_a_mask(kind):
    names = np.array(["a", "b", "c"])[Y].tolist()
    model = classifier("mmd").fit(ROWS, np.array([*names, *([-1] * N)], dtype=kind))
    assert model.classes_.tolist() == ["a", "b", "c"]


def test_parts_have_no_masks():
    message = r"^`y` of `partial_fit` must hold a label for each sample\. Got a masked"
    with pytest.raises(ValueError, match=message):
        classifier("none").partial_fit(ROWS, MASKED)
    model = classifier("none").partial_fit(SOURCE, Y)
    with pytest.raises(ValueError, match=message):
        model.partial_fit(SOURCE[:2], [0, -1])
    with pytest.raises(ValueError, match="NaN"):
        regressor("none").partial_fit(ROWS, INK)
    model = classifier("none").partial_fit(SOURCE, Y - 1, classes=[-1, 0, 1])
    assert "_spans" not in vars(model)
    assert len(model.partial_fit(SOURCE, Y - 1).history_) == 2


def test_samples_to_validate_on_have_no_masks():
    message = r"^`y_val` must hold a label for each sample\. Got a masked one, or NaN, "
    with pytest.raises(ValueError, match=message):
        classifier("mmd").fit(ROWS, MASKED, X_val=ROWS, y_val=MASKED)
    model = classifier("mmd").fit(ROWS, MASKED, X_val=NEW, y_val=Y_NEW)
    assert "valid_loss" in model.history_


def test_no_source():
    with pytest.raises(ValueError, match="labelled samples of a source domain. Got"):
        classifier("mmd").fit(ROWS, MASKED, sample_domain=-1)


@pytest.mark.parametrize("method", NEEDS_STAGES)
def test_no_stage_to_train(method):
    message = rf"`method='{method}'` changes the stages .* `freeze='all'`, which leaves"
    with pytest.raises(ValueError, match=message):
        classifier(method, freeze="all").fit(ROWS, MASKED)


@pytest.mark.parametrize("method", NEEDS_STAGES)
def test_auto_leaves_a_stage_to_train(method):
    model = classifier(method, freeze="auto").fit(ROWS, MASKED)
    n_trained = 2 if method == "adabn" else 1  # up to one that has BatchNorm
    assert model.freeze_depth_ == len(model.backbone_.stages) - n_trained
    plain = classifier("none", freeze="auto").fit(ROWS, MASKED)
    assert plain.freeze_depth_ == len(plain.backbone_.stages)


def make_plain_network():
    return nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 8))


def test_no_batch_norm():
    with pytest.raises(ValueError, match="needs BatchNorm layers .* which has none"):
        classifier("adabn", backbone=make_plain_network).fit(ROWS, MASKED)


@pytest.mark.parametrize("method", NEEDS_CLASSES)
def test_independent_labels(method):
    y = np.stack([MASKED == 0, MASKED == 1], axis=1).astype(int)
    with pytest.raises(ValueError, match="needs classes that exclude each other"):
        classifier(method).fit(ROWS, y, sample_domain=DOMAIN)


@pytest.mark.parametrize("method", ["adabn", "coral", "mmd", "jmmd", "dann"])
def test_independent_labels_with_other_methods(method):
    y = np.stack([MASKED == 0, MASKED == 1], axis=1).astype(int)
    y[N:] = -1
    model = classifier(method).fit(ROWS, y)
    assert model.predict(NEW).shape == (len(NEW), 2)


def test_going_on_is_not_for_the_source_alone():
    with pytest.raises(ValueError, match="`partial_fit` cannot be used with `method='"):
        classifier("mmd").partial_fit(SOURCE, Y, classes=[0, 1, 2])
    model = classifier("shot", warm_start=True).fit(ROWS, MASKED)
    with pytest.raises(ValueError, match="`warm_start` cannot be used with `method='s"):
        model.fit(ROWS, MASKED)


@pytest.mark.parametrize("method", ["none", "mmd"])
def test_going_on_with_both_domains(method):
    model = classifier(method, warm_start=True).fit(ROWS, MASKED)
    assert len(model.fit(ROWS, MASKED).history_) == 4
    assert ("objective" in model.history_) == (method != "none")


# Interrupted


@pytest.mark.parametrize("method", ["none", *JOINT])
def test_interrupted_fit_ends_as_if_it_had_not_been(method, tmp_path):
    settings = {"max_epochs": 5, "dropout": 0.2}
    whole = classifier(method, **settings).fit(ROWS, MASKED)
    model = classifier(method, checkpoint=tmp_path, **settings)
    resumed, n_epochs = interrupt_and_resume(model, ROWS, MASKED)
    assert n_epochs == 2
    np.testing.assert_array_equal(outputs(resumed), outputs(whole))


def test_checkpoint_of_another_target_is_another(tmp_path):
    model = classifier("mmd", checkpoint=tmp_path, max_epochs=5)
    interrupt(model, ROWS, MASKED, after=3)
    other = np.concatenate([SOURCE, TARGET + 0.1])
    with counted() as epochs:
        model.fit(other, MASKED)
    assert len(epochs) == 5


# Towards the look of the target


def test_augmentation_towards_the_target_is_a_style_of_it():
    settings = {"freeze": "all", "n_views": 2}
    model = lite("none", augment="target", **settings).fit(BOTH, BOTH_LABELS)
    assert isinstance(model.style_, TargetStyle)
    style = TargetStyle(value_range=(0, 16)).fit(BOTH[30:])
    np.testing.assert_array_equal(
        np.sort(model.style_.target_rows_, axis=0), np.sort(style.target_rows_, axis=0)
    )
    plain = FineTunedClassifier(
        image_size=32,
        value_range=(0, 16),
        random_state=0,
        augment=model.style_,
        **settings,
    )
    plain.fit(X, LABELS)
    np.testing.assert_allclose(
        model.predict_proba(BOTH), plain.predict_proba(BOTH), atol=1e-6
    )


@pytest.mark.parametrize("method", ["mmd", "adabn", "shot"])
def test_augmentation_towards_the_target_with_methods(method):
    model = lite(method, augment="target", n_views=1, max_epochs=1)
    model.fit(BOTH, BOTH_LABELS)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(BOTH), model.predict(BOTH))


@pytest.mark.parametrize("n_views", [None, 2])
def test_by_default_joint_methods_draw_views_towards_the_target(n_views):
    settings = {"freeze": "all", "max_epochs": 1, "n_views": n_views}
    model = lite("mcc", **settings).fit(BOTH, BOTH_LABELS)
    assert model.augment == "auto" and isinstance(model.style_, TargetStyle)
    said = {**settings, "augment": "target", "n_views": n_views or 4}
    twin = lite("mcc", **said).fit(BOTH, BOTH_LABELS)
    np.testing.assert_array_equal(model.predict_proba(X), twin.predict_proba(X))
    plain = lite("mcc", **settings, augment=None).fit(BOTH, BOTH_LABELS)
    assert abs(model.predict_proba(X) - plain.predict_proba(X)).max() > 1e-4
    process_store().clear()
    model.fit(BOTH, BOTH_LABELS)
    forward_passes().clear()
    model.set_params(adaptation_weight=2.0).fit(BOTH, BOTH_LABELS)
    assert sum(forward_passes().values()) == 0


@pytest.mark.parametrize("method", ["none", "shot"])
def test_by_default_other_methods_see_images_as_they_are(method):
    model = lite(method, max_epochs=1).fit(BOTH, BOTH_LABELS)
    assert not hasattr(model, "style_")
    twin = lite(method, max_epochs=1, augment=None).fit(BOTH, BOTH_LABELS)
    np.testing.assert_array_equal(model.predict_proba(X), twin.predict_proba(X))


def test_by_default_rows_have_no_look():
    found = classifier("mmd").fit(ROWS, MASKED)
    assert found.augment == "auto" and not hasattr(found, "style_")


@pytest.mark.parametrize("augment", ["auto", "target", None])
def test_views_of_what_is_predicted_are_not_drawn_towards_it(augment):
    model = lite("mcc", augment=augment, tta=2, freeze="all")
    with pytest.raises(ValueError, match=r"`tta` needs an `augment` that draws views"):
        model.fit(BOTH, BOTH_LABELS)


def test_samples_without_weight_have_no_look():
    weight = np.repeat([1.0, 0.0, 1.0], [20, 10, 30])
    model = lite("mcc", freeze="all", max_epochs=1).fit(BOTH, BOTH_LABELS, weight)
    assert len(model.style_.source_rows_) == 20


def test_a_style_that_is_given_leaves_the_target_as_it_is():
    style = TargetStyle(value_range=(0, 16)).fit(BOTH[30:], X_source=X)
    settings = {"freeze": "all", "n_views": 4, "max_epochs": 1}
    given = lite("mcc", augment=style, **settings).fit(BOTH, BOTH_LABELS)
    own = lite("mcc", augment="target", **settings).fit(BOTH, BOTH_LABELS)
    np.testing.assert_allclose(given.predict_proba(X), own.predict_proba(X), atol=1e-5)


def test_style_is_that_of_the_last_fit():
    settings = {"freeze": "all", "n_views": 1, "augment": "target"}
    model = lite("none", **settings).fit(BOTH, BOTH_LABELS)
    model.set_params(augment=None).fit(BOTH, BOTH_LABELS)
    assert not hasattr(model, "style_")


def test_style_when_the_training_goes_on():
    settings = {"n_views": 1, "augment": "target", "max_epochs": 1}
    model = lite("none", warm_start=True, **settings).fit(BOTH, BOTH_LABELS)
    first = model.style_
    model.fit(np.concatenate([X, X / 2]), BOTH_LABELS)
    assert model.style_ is not first and len(model.history_) == 2


def test_augmentation_needs_a_target():
    with pytest.raises(ValueError, match=r"`augment='target'` needs target samples in"):
        lite("none", augment="target").fit(X, LABELS)


def test_augmentation_needs_images():
    with pytest.raises(ValueError, match="`augment` must be None for a backbone that"):
        classifier("none", augment="target").fit(ROWS, MASKED)


# Inputs of other kinds


def test_paths(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(60)]
    for path, image in zip(paths, BOTH, strict=True):
        Image.fromarray((15 * image).astype(np.uint8)).save(path)
    model = lite("mmd", max_epochs=1, value_range="auto").fit(paths, BOTH_LABELS)
    assert model.predict(paths[30:]).shape == (30,)


class Labelled(torch.utils.data.Dataset):
    def __init__(self, images, targets):
        self.images, self.targets = images, targets

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return Image.fromarray((15 * self.images[i]).astype(np.uint8)), self.targets[i]


def test_labels_of_a_dataset_are_masked_alike():
    data = Labelled(BOTH, BOTH_LABELS.tolist())
    found = lite("mmd", value_range="auto").fit(data)
    other = Labelled(BOTH, [*LABELS.tolist(), *([2] * 30)])
    again = clone(found).fit(other, sample_domain=np.repeat([1, -1], 30))
    images = [data[i][0] for i in range(60)]
    assert found.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(
        found.predict_proba(images), again.predict_proba(images)
    )
