import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sktransfer import EarlyStopping, FineTunedRegressor, config_context
from tests.test_classifier import ROWS, ROWS_NEW, X_NEW, Y_NEW, X, Y, lite, small, tiny


def make_deep_network():
    return nn.Sequential(
        nn.LazyLinear(16),
        nn.ReLU(),
        nn.Linear(16, 12),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Linear(12, 8),
    )


def deep(**settings):
    return tiny(backbone=make_deep_network, batch_size=8, **{"freeze": 1, **settings})


STRATEGIES = {
    "partial": {},
    "random head": {"training__head_init": "random"},
    "gradual": {"training__unfreeze_every": 1, "max_epochs": 6},
    "lora": {"training__adapter": "lora"},
    "gradual lora": {
        "training__adapter": "lora",
        "training__unfreeze_every": 1,
        "max_epochs": 6,
    },
    "layer decay": {"training__layer_decay": 0.5},
    "training__l2_sp": {"training__l2_sp": 0.1},
    "augment__mixup": {"augment__mixup": 0.4},
    "augment__cutmix": {"augment__cutmix": 1.0},
    "training__ema": {"training__ema": 0.9},
    "early stopping": {
        "early_stopping": True,
        "early_stopping__validation_fraction": 0.3,
        "early_stopping__n_iter_no_change": 1,
        "training__head_init": "random",
        "max_epochs": 4,
    },
    "mlp": {"head": "mlp"},
    "cosine": {"head": "cosine"},
    "module": {"head": nn.LazyLinear(3)},
    "training__dropout": {"training__dropout": 0.3},
    "smoothing": {"training__label_smoothing": 0.1},
    "accumulate": {"training__accumulate_grad_batches": 3},
    "one cycle": {"training__lr_schedule": "one_cycle"},
    "statistics": {"training__batch_norm": "train"},
}


@pytest.fixture(scope="module")
def frozen():
    """Pretrained weights of the network."""
    with config_context(activation_dtype="float32"):
        return deep(freeze="all").fit(ROWS, Y).backbone_.module.state_dict()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_frozen_tensors_stay_and_fits_repeat(strategy, frozen):
    settings, before = STRATEGIES[strategy], frozen
    first, again = (deep(**settings).fit(ROWS, Y) for _ in range(2))
    proba = first.predict_proba(ROWS_NEW)
    np.testing.assert_array_equal(proba, again.predict_proba(ROWS_NEW))
    if strategy not in ("partial", "one cycle"):
        plain = deep(max_epochs=settings.get("max_epochs", 2)).fit(ROWS, Y)
        assert abs(plain.predict_proba(ROWS_NEW) - proba).max() > 1e-6
    after = first.backbone_.module.state_dict()
    prefix = first.backbone_.section("input", first.boundary_)
    frozen = {*prefix.state_dict()}
    assert frozen and after.keys() == before.keys()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed and not changed & frozen
    if settings.get("training__adapter"):
        assert all(after[name].ndim == 2 for name in changed)
    if settings.get("training__batch_norm") != "train":
        assert not any("running" in name for name in changed)


# Validation


@pytest.mark.parametrize("C", [1.0, "auto"])
def test_probe_holds_nothing_out(C):
    model = tiny(freeze="all", C=C, early_stopping=True).fit(ROWS, Y)
    expected = tiny(freeze="all", C=C).fit(ROWS, Y)
    np.testing.assert_array_equal(
        model.predict_proba(ROWS_NEW), expected.predict_proba(ROWS_NEW)
    )


def test_validation_loss_of_the_probe():
    weight = np.arange(len(Y_NEW)) + 1.0
    held = {"X_val": ROWS_NEW, "y_val": Y_NEW, "sample_weight_val": weight}
    model = tiny(freeze="all", training__label_smoothing=0.1).fit(ROWS, Y, **held)
    proba = model.predict_proba(ROWS_NEW)[range(100), Y_NEW]
    expected = np.average(-np.log(proba), weights=weight)
    assert model.history_["valid_loss"].iloc[0] == pytest.approx(expected, rel=1e-4)


def test_validation_samples_go_together():
    model = deep().fit(ROWS, Y)
    with pytest.raises(ValueError, match="^`X_val` is needed with `y_val`"):
        model.fit(ROWS, Y, y_val=Y)
    with pytest.raises(ValueError, match="^`X_val` is needed with `sample_weight_val`"):
        model.fit(ROWS, Y, sample_weight_val=Y)
    with pytest.raises(ValueError, match="^`y_val` is needed, as the samples"):
        model.fit(ROWS, Y, X_val=ROWS)
    assert model.score(ROWS, Y) > 0.5


def test_score_without_labels():
    with pytest.raises(NotFittedError):
        deep().score(ROWS)
    with pytest.raises(ValueError, match="^`y` is needed, as the samples are"):
        deep().fit(ROWS, Y).score(ROWS)


def test_class_that_validation_lacks():
    held = {"X_val": ROWS[Y < 2], "y_val": Y[Y < 2]}
    for class_weight in (None, "balanced", {0: 3.0, 2: 0.5}):
        model = deep(class_weight=class_weight).fit(ROWS, Y, **held)
        assert model.history_["valid_loss"].notna().all()


def test_label_that_training_lacks():
    with pytest.raises(ValueError, match=r"not among the classes: \[2\]"):
        deep().fit(ROWS[Y < 2], Y[Y < 2], X_val=ROWS, y_val=Y)


# Transform


def test_transform_returns_the_features_of_the_head():
    model = deep().fit(ROWS, Y)
    features = model.transform(ROWS_NEW)
    assert features.shape == (100, 8) and features.dtype == np.float32
    with torch.inference_mode():
        scores = model.module_.network.head(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(scores, model.decision_function(ROWS_NEW), rtol=1e-5)
    names = [f"finetunedclassifier{i}" for i in range(8)]
    assert model.get_feature_names_out().tolist() == names
    frame = model.set_output(transform="pandas").transform(ROWS_NEW)
    assert frame.columns.tolist() == names


def test_transformer_in_a_pipeline():
    pipeline = make_pipeline(deep(max_epochs=10), LogisticRegression(C=100))
    assert pipeline.fit(ROWS, Y).score(ROWS_NEW, Y_NEW) > 0.7


def test_test_time_augmentation_averages_scores():
    model = small(freeze="all", augment="crop").fit(X, Y)
    plain = model.decision_function(X_NEW[:9])
    one, again = (
        model.set_params(augment__tta=1).decision_function(X_NEW[:9]) for _ in range(2)
    )
    np.testing.assert_array_equal(one, again)
    assert abs(one - plain).max() > 1e-3
    model.set_params(augment__views=lambda image: image)
    np.testing.assert_allclose(model.decision_function(X_NEW[:9]), plain, rtol=1e-4)
    with pytest.raises(ValueError, match="`augment__tta` needs"):
        model.set_params(augment__views=None).predict(X_NEW[:9])


# Threads


def make_convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, stride=2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


@pytest.mark.filterwarnings("ignore:Sequential does not say which preprocessing")
@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_number_of_threads_changes_no_bit(batch_norm):
    model = lite(
        backbone=make_convolutions,
        freeze="none",
        training__head_init="random",
        training__batch_norm=batch_norm,
        image_size=32,
        max_epochs=2,
    )
    before, found = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            found.append(model.fit(X, Y).predict_proba(X_NEW))
            assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*found)


# Learning rates


def test_lr_must_be_a_number():
    with pytest.raises(ValueError, match=r"The 'lr' parameter .* Got 'auto' instead"):
        deep(lr="auto").fit(ROWS, Y)


def test_schedule_of_torch():
    model = deep(training__lr_schedule=torch.optim.lr_scheduler.ConstantLR).fit(ROWS, Y)
    assert "event_lr" in model.history_ or len(model.history_) == 2


@pytest.mark.parametrize(
    "grid",
    [
        {"training__unfreeze_every": [None, 1]},
        {"training__adapter": [None, "lora"], "head": ["linear", "mlp"]},
    ],
    ids=lambda grid: next(iter(grid)),
)
def test_grid_search(grid):
    search = GridSearchCV(
        deep(max_epochs=4), grid, cv=2, scoring="neg_log_loss", error_score="raise"
    ).fit(ROWS, Y)
    assert len({*search.cv_results_["mean_test_score"]}) > 1


# Part by part


@pytest.mark.parametrize("settings", [{}, {"training__dropout": 0.2}, {"C": 1e3}])
def test_parts_of_one_class_are_learned(settings):
    full = tiny(freeze="all", **settings).fit(ROWS, Y)
    parts = [np.flatnonzero(c == Y) for c in (2, 0, 1)]
    model = tiny(freeze="all", **settings)
    for rows in parts:
        model.partial_fit(ROWS[rows], Y[rows], classes=[0, 1, 2])
        model = pickle.loads(pickle.dumps(model))
    assert model.score(ROWS, Y) >= full.score(ROWS, Y) - 0.1
    assert len(model.history_) == 3 and model.history_["n_iter"].iloc[-1] > 0
    assert isinstance(list(model.module_.network.head.modules())[-1], nn.Linear)
    for _ in range(5):
        model.partial_fit(ROWS, Y)
    assert model.score(ROWS_NEW, Y_NEW) >= full.score(ROWS_NEW, Y_NEW) - 0.05
    fresh = clone(model).partial_fit(ROWS[Y < 2], Y[Y < 2])
    assert fresh.classes_.tolist() == [0, 1]


def test_parts_of_one_of_two_classes_are_learned():
    model = tiny(freeze="all")
    for c in (1, 0):
        model.partial_fit(ROWS[c == Y], Y[c == Y], classes=[0, 1])
    assert model.score(ROWS_NEW[Y_NEW < 2], Y_NEW[Y_NEW < 2]) > 0.85


def test_part_after_fit_keeps_what_was_fitted():
    model = tiny(freeze="all").fit(ROWS, Y)
    before = model.score(ROWS_NEW, Y_NEW)
    model.partial_fit(ROWS[Y == 1], Y[Y == 1])
    assert model.score(ROWS_NEW, Y_NEW) > before - 0.05


def test_error_in_a_part_leaves_the_model_as_it_was():
    model = tiny(freeze="all").partial_fit(ROWS, Y)
    before = model.predict_proba(ROWS_NEW)
    with pytest.raises(ValueError, match="not among the classes"):
        model.partial_fit(ROWS, Y + 1)
    np.testing.assert_array_equal(model.predict_proba(ROWS_NEW), before)


def test_classes_of_a_later_part_are_those_of_the_first():
    model = tiny(freeze="all").partial_fit(ROWS, Y, classes=[0, 1, 2])
    model.partial_fit(ROWS, Y, classes=[2, 1, 0])
    message = (
        r"^`classes=\['a', 'b'\]` is not the same as on last call to partial_fit, was: "
        r"array\(\[0, 1, 2\]\). Give the same labels or none; a `clone`"
    )
    with pytest.raises(ValueError, match=message):
        model.partial_fit(ROWS, Y, classes=["a", "b"])


# Nonsense


def test_single_sample_and_batch_norm():
    def make_norm():
        return nn.Sequential(nn.LazyLinear(8), nn.BatchNorm1d(8), nn.ReLU())

    message = "A batch must have two samples or more .* Got one sample: .*batch_size"
    model = tiny(backbone=make_norm, freeze=0, training__batch_norm="train")
    with pytest.raises(ValueError, match=message):
        clone(model).set_params(batch_size=1).fit(ROWS, Y)
    model.partial_fit(ROWS, Y)
    with pytest.raises(ValueError, match=message):
        model.partial_fit(ROWS[:1], Y[:1])


def test_lazy_layer_that_cannot_be_copied():
    head = nn.Sequential(nn.LazyBatchNorm1d(), nn.LazyLinear(3))
    message = r"^`head` must map .* cannot be copied. Give its size, as .*Norm1d\(8\)"
    with pytest.raises(ValueError, match=message):
        tiny(head=head).fit(ROWS, Y)


def test_training_that_diverges():
    with pytest.raises(ValueError, match=r"The training diverged: .* \(it is 1e\+06\)"):
        deep(lr=1e6, max_epochs=30).fit(ROWS, Y)


@pytest.mark.parametrize("freeze", ["all", 1])
def test_samples_that_are_all_alike(freeze):
    model = tiny(freeze=freeze, lr=1e-6)
    with pytest.warns(UserWarning, match="All 36 samples are equal, .* at `X\\[0\\]`"):
        model.fit(np.ones((36, 64)), Y)
    share = np.bincount(Y) / 36
    np.testing.assert_allclose(
        model.predict_proba(np.ones((1, 64)))[0], share, atol=1e-3
    )


@pytest.mark.parametrize("freeze", ["all", 1])
def test_first_part_of_one_class(freeze):
    model = deep(freeze=freeze, lr=0.03, training__lr_schedule="constant")
    model.partial_fit(ROWS[Y == 1], Y[Y == 1], classes=[0, 1, 2])
    assert {*model.predict(ROWS_NEW)} == {1}
    for _ in range(25):
        model.partial_fit(ROWS, Y)
    assert model.score(ROWS, Y) > 0.6


def test_fewer_samples_than_classes():
    model = deep().partial_fit(ROWS[:3], Y[:3], classes=range(10))
    assert model.predict_proba(ROWS).shape == (36, 10)
    with pytest.raises(ValueError, match="`early_stopping` needs a class with two"):
        deep(early_stopping=True).fit(ROWS[:3], Y[:3])


def test_history_has_rates_and_accuracies():
    held = {"X_val": ROWS_NEW, "y_val": Y_NEW}
    stopping = EarlyStopping(n_iter_no_change=2)
    settings = {"training__head_init": "random", "early_stopping": stopping}
    model = tiny(freeze=1, max_epochs=8, lr=0.05, **settings).fit(ROWS, Y, **held)
    history = model.history_
    assert model.n_iter_ == len(history)
    best = history.iloc[model.best_epoch_ - 1]
    assert best["valid_accuracy"] == pytest.approx(model.score(ROWS_NEW, Y_NEW))
    assert history["train_accuracy"].between(0, 1).all()
    assert 0 < history["lr"].max() <= 0.05 and history["lr"].nunique() > 1
    probe = tiny(freeze="all").fit(ROWS, Y)
    assert probe.n_iter_ == probe.history_["n_iter"][0]
    assert not hasattr(probe, "best_epoch_")


def test_history_of_other_targets():
    labels = np.stack([Y == 0, Y == 1, Y != 2], axis=1).astype(int)
    model = tiny(freeze=1).fit(ROWS, labels, X_val=ROWS, y_val=labels)
    right = model.predict(ROWS) == labels
    assert model.history_["valid_accuracy"].iloc[-1] == pytest.approx(right.mean())
    regressor = FineTunedRegressor(make_deep_network, freeze=1, max_epochs=1)
    found = regressor.fit(ROWS, ROWS[:, 20]).history_
    assert "lr" in found and "train_accuracy" not in found
