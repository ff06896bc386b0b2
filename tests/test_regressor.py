import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn

from sktransfer import FineTunedRegressor, config_context

DIGITS = load_digits(n_class=3)
X, X_NEW = DIGITS.images[:36], DIGITS.images[36:136]
ROWS, ROWS_NEW = DIGITS.data[:36] / 16, DIGITS.data[36:136] / 16
Y, Y_NEW = DIGITS.target[:36], DIGITS.target[36:136]
INK, INK_NEW = ROWS.sum(axis=1), ROWS_NEW.sum(axis=1)
BOTH = np.stack([INK, 100 - 3 * ROWS[:, 20]], axis=1)
BOTH_NEW = np.stack([INK_NEW, 100 - 3 * ROWS_NEW[:, 20]], axis=1)
ALL_ALIKE = pytest.mark.filterwarnings("ignore:All .* samples are equal")


def make_network():
    return nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())


def make_wide_network():
    return nn.Sequential(nn.LazyLinear(128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())


def tiny(**settings):
    """Regress on rows with a network of two stages."""
    settings = {"max_epochs": 2, "lr": 1e-2, "random_state": 0, **settings}
    return FineTunedRegressor(make_network).set_params(**settings)


def lite(**settings):
    """Regress on images with the shipped weights."""
    settings = {"max_epochs": 2, "image_size": 64, "value_range": (0, 16), **settings}
    return FineTunedRegressor(random_state=0).set_params(**settings)


@pytest.fixture(autouse=True)
def _exact():
    """Round nothing that is kept, so that values can be compared."""
    with config_context(activation_dtype="float32", precision="float32"):
        yield


# The probe


def test_probe_is_ridge_regression():
    probe = tiny(freeze="all", alpha=2.0).fit(ROWS, BOTH)
    reference = Ridge(alpha=2.0).fit(probe.transform(ROWS), BOTH)
    expected = reference.predict(probe.transform(ROWS_NEW))
    np.testing.assert_allclose(probe.predict(ROWS_NEW), expected, rtol=1e-4)
    assert probe.alpha_ == 2.0


def test_parts_in_any_order_are_ridge_regression_on_all():
    probe, parts = (tiny(freeze="all", alpha=2.0) for _ in range(2))
    probe.fit(ROWS, INK)
    for rows in np.array_split(np.argsort(INK), 5):
        parts.partial_fit(ROWS[rows], INK[rows])
    scale = (
        probe.model_.outputs.scale / parts.model_.outputs.scale
    )  # of the targets, which the penalty goes by
    assert abs(parts.predict(ROWS) - probe.predict(ROWS)).max() < 1e-3 * INK.std()
    assert scale > 1


def test_strength_is_chosen_by_leaving_one_out():
    probe = tiny(freeze="all").fit(ROWS, INK)
    features = probe.transform(ROWS)
    reference = RidgeCV(np.logspace(-6, 3, 60)).fit(features, INK)
    expected = reference.predict(probe.transform(ROWS_NEW))
    difference = probe.predict(ROWS_NEW) - expected
    assert abs(difference).max() < 0.05 * INK.std()


def test_probe_of_the_shipped_weights_is_good():
    assert lite(freeze="all").fit(X, Y).score(X_NEW, Y_NEW) > 0.6


@pytest.mark.parametrize("freeze", [1, "all"])
def test_fitted_alpha_gives_the_same_model(freeze):
    auto = tiny(freeze=freeze).fit(ROWS, BOTH)
    fixed = tiny(freeze=freeze, alpha=auto.alpha_).fit(ROWS, BOTH)
    assert fixed.alpha_ == auto.alpha_
    np.testing.assert_array_equal(fixed.predict(ROWS_NEW), auto.predict(ROWS_NEW))


def test_training_starts_from_the_probe():
    probe = tiny(freeze="all").fit(ROWS, BOTH)
    model = tiny(freeze=1, lr=1e-9).fit(ROWS, BOTH)
    np.testing.assert_allclose(
        model.predict(ROWS_NEW), probe.predict(ROWS_NEW), rtol=1e-4
    )
    assert model.alpha_ == probe.alpha_
    model = tiny(freeze=1, lr=1e-9, training__head_init="random").fit(ROWS, BOTH)
    assert abs(model.predict(ROWS_NEW) - probe.predict(ROWS_NEW)).max() > 0.1


def test_training_lowers_the_loss():
    history = tiny(freeze="none", max_epochs=60, alpha=1.0).fit(ROWS, INK).history_
    assert history["train_loss"].iloc[-1] < 0.5 * history["train_loss"].iloc[0]


def test_frozen_tensors_are_the_pretrained_ones():
    model = lite(freeze=8).fit(X, INK)
    before = lite(freeze="all").fit(X, INK).backbone_.module.state_dict()
    prefix = model.backbone_.section("input", model.boundary_)
    frozen = {*dict(prefix.named_parameters()), *dict(prefix.named_buffers())}
    after = model.backbone_.module.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    trained = dict(model.net_.module_.suffix.named_parameters())
    assert trained
    assert not any(torch.equal(after[name], before[name]) for name in trained)


# Targets


@pytest.mark.parametrize("freeze", ["all", 1])
def test_predictions_have_the_shape_of_y(freeze):
    def predict(y):
        return tiny(freeze=freeze).fit(ROWS, y).predict(ROWS_NEW)

    vector, both = predict(INK), predict(BOTH)
    assert vector.shape == (100,) and both.shape == (100, 2)
    assert vector.dtype == both.dtype == predict(INK.astype(np.float32)).dtype == float
    for y in (INK.tolist(), pd.Series(INK)):
        np.testing.assert_array_equal(predict(y), vector)
    np.testing.assert_array_equal(predict(INK[:, None]), vector[:, None])
    np.testing.assert_array_equal(predict(pd.DataFrame(BOTH)), both)
    assert predict(INK.astype(int)).dtype == float


@pytest.mark.parametrize(
    ("freeze", "loss"),
    [
        ("all", "squared_error"),
        (1, "squared_error"),
        (1, "absolute_error"),
        (1, "huber"),
        (1, "quantile"),
    ],
)
def test_units_of_the_targets_are_those_of_the_predictions(freeze, loss):
    settings = {"freeze": freeze, "loss": loss, "max_epochs": 5}
    plain = tiny(**settings).fit(ROWS, INK).predict(ROWS_NEW)
    scaled = tiny(**settings).fit(ROWS, INK * 1000 + 5).predict(ROWS_NEW)
    np.testing.assert_allclose(scaled, plain * 1000 + 5, rtol=1e-4)
    small = tiny(**settings).fit(ROWS, BOTH * [1, 1e-6]).predict(ROWS_NEW)
    both = tiny(**settings).fit(ROWS, BOTH).predict(ROWS_NEW)
    np.testing.assert_allclose(small, both * [1, 1e-6], rtol=1e-4)


@pytest.mark.parametrize("freeze", ["all", 1])
def test_targets_that_are_constant(freeze):
    y = np.stack([INK, np.full(36, 7.0)], axis=1)
    predicted = tiny(freeze=freeze, lr=1e-6).fit(ROWS, y).predict(ROWS_NEW)
    np.testing.assert_allclose(predicted[:, 1], 7.0, atol=1e-3)


@ALL_ALIKE
@pytest.mark.parametrize(
    ("freeze", "loss", "statistic"),
    [
        (1, {"loss": "squared_error"}, np.mean),
        ("all", {"loss": "absolute_error"}, np.median),
        (1, {"loss": "quantile", "quantile": 0.8}, lambda y: np.quantile(y, 0.8)),
        ("all", {"loss": "quantile", "quantile": 0.1}, lambda y: np.quantile(y, 0.1)),
    ],
    ids=["mean", "median", "80%", "10%"],
)
def test_loss_finds_its_statistic_without_features(freeze, loss, statistic):
    y = np.random.RandomState(0).gamma(2.0, size=201)
    settings = {
        "lr": 0.02,
        "training__weight_decay": 0.0,
        "max_epochs": 200,
        "batch_size": 201,
    }
    model = tiny(freeze=freeze, **settings, **loss).fit(np.ones((201, 3)), y)
    predicted = model.predict(np.ones((1, 3)))
    np.testing.assert_allclose(predicted, statistic(y), atol=0.1)


@ALL_ALIKE
def test_huber_is_between_mean_and_median():
    y = np.random.RandomState(0).gamma(0.5, size=201)
    settings = {"freeze": "all", "lr": 0.05, "max_epochs": 60, "batch_size": 201}
    model = tiny(loss="huber", **settings).fit(np.ones((201, 3)), y)
    (predicted,) = model.predict(np.ones((1, 3)))
    assert np.median(y) + 0.05 < predicted < y.mean() - 0.05


def test_share_of_the_targets_below_a_quantile():
    quantile = 0.8
    X, y = DIGITS.data[:300] / 16, DIGITS.data[:300].sum(axis=1)
    settings = {"max_epochs": 60, "freeze": 1}
    model = tiny(loss="quantile", quantile=quantile, **settings).fit(X, y)
    assert (y < model.predict(X)).mean() == pytest.approx(quantile, abs=0.06)


def test_only_squared_errors_are_solved():
    assert len(tiny(freeze="all").fit(ROWS, INK).history_) == 1
    assert len(tiny(freeze="all", loss="huber").fit(ROWS, INK).history_) == 2


# Weights


@pytest.mark.parametrize("freeze", ["all", 1])
def test_weights_of_one_change_nothing(freeze):
    plain = tiny(freeze=freeze).fit(ROWS, INK)
    weighted = tiny(freeze=freeze).fit(ROWS, INK, sample_weight=np.ones(36))
    np.testing.assert_array_equal(plain.predict(ROWS_NEW), weighted.predict(ROWS_NEW))


@pytest.mark.parametrize("freeze", ["all", 1])
@pytest.mark.parametrize("y", [INK, BOTH], ids=["one", "two"])
def test_weight_zero_removes_and_weight_two_repeats_a_sample(freeze, y):
    weight = np.random.RandomState(0).randint(0, 3, 36)
    weighted = tiny(freeze=freeze, batch_size=8).fit(ROWS, y, sample_weight=weight)
    repeated = tiny(freeze=freeze, batch_size=8)
    repeated.fit(ROWS.repeat(weight, axis=0), y.repeat(weight, axis=0))
    plain = tiny(freeze=freeze, batch_size=8).fit(ROWS, y)
    predicted = weighted.predict(ROWS_NEW)
    np.testing.assert_allclose(predicted, repeated.predict(ROWS_NEW), rtol=1e-4)
    assert abs(predicted - plain.predict(ROWS_NEW)).max() > 1e-2


@ALL_ALIKE
def test_same_row_with_two_targets_counts_twice():
    rows, y = np.ones((4, 3)), np.array([0.0, 0.0, 0.0, 8.0])
    model = tiny(freeze="all").fit(rows, y)
    np.testing.assert_allclose(model.predict(rows), 2.0, rtol=1e-5)


# Around the estimator


@pytest.mark.parametrize("y", [INK, BOTH], ids=["one", "two"])
def test_score_is_r2(y):
    model = tiny(freeze=1).fit(ROWS, y)
    assert model.score(ROWS, y) == r2_score(y, model.predict(ROWS))


def test_random_state_fixes_everything():
    first, again, other = (
        tiny(freeze=1, training__head_init="random", random_state=seed)
        .fit(ROWS, INK)
        .predict(ROWS_NEW)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 1e-3


@pytest.mark.parametrize("freeze", ["all", 1])
def test_pickle(freeze):
    model = tiny(freeze=freeze).fit(ROWS, BOTH)
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict(ROWS_NEW), model.predict(ROWS_NEW))
    pd.testing.assert_frame_equal(copy.history_, model.history_)


def test_grid_search_over_losses():
    grid = {"loss": ["squared_error", "huber", "absolute_error", "quantile"]}
    search = GridSearchCV(tiny(freeze=1), grid, cv=2, error_score="raise")
    search.fit(ROWS, INK)
    assert len({*search.cv_results_["mean_test_score"]}) > 2


def test_images_in_cross_validation():
    scores = cross_val_score(lite(freeze=8), X, Y, cv=2, error_score="raise")
    assert scores.mean() > 0.5


def test_partial_fit_keeps_the_units():
    model = tiny(freeze=1, lr=1e-9).partial_fit(ROWS, INK)
    before = model.predict(ROWS_NEW)
    model.partial_fit(ROWS[:5], INK[:5] + 100)
    np.testing.assert_allclose(model.predict(ROWS_NEW), before, rtol=1e-5)
    for lr in (0.1, 0.01):
        model.set_params(lr=lr)
        for _ in range(25):
            model.partial_fit(ROWS, INK + 3)
    assert model.predict(ROWS).mean() == pytest.approx(INK.mean() + 3, abs=0.5)


def test_first_part_of_equal_targets_warns():
    message = "^All targets of the first call of `partial_fit` are equal"
    with pytest.warns(UserWarning, match=message):
        tiny(freeze=1).partial_fit(ROWS[:8], np.ones(8))


def test_validation_loss_of_the_ridge_regression():
    model = tiny(freeze="all").fit(ROWS, INK, X_val=ROWS_NEW, y_val=INK_NEW)
    errors = (model.predict(ROWS_NEW) - INK_NEW) / INK.std()
    row = model.history_.iloc[0]
    assert row["valid_loss"] == pytest.approx(0.5 * (errors**2).mean(), rel=1e-3)
    errors = (model.predict(ROWS) - INK) / INK.std()
    assert row["train_loss"] == pytest.approx(0.5 * (errors**2).mean(), rel=1e-3)


def test_validation_loss_has_the_units_of_the_training_loss():
    settings = {"freeze": 1, "lr": 1e-9, "max_epochs": 1, "batch_size": 36}
    model = tiny(**settings).fit(ROWS, INK, X_val=ROWS_NEW, y_val=INK_NEW)
    errors = (model.predict(ROWS_NEW) - INK_NEW) / INK.std()
    expected = 0.5 * (errors**2).mean()
    assert model.history_["valid_loss"].iloc[0] == pytest.approx(expected, rel=1e-4)


# Errors


@pytest.mark.parametrize(
    ("model", "data"), [(lite(), X), (tiny(), ROWS)], ids=["images", "rows"]
)
def test_y_that_cannot_be_learned(model, data):
    with pytest.raises(ValueError, match="Input y contains NaN"):
        clone(model).fit(data, np.where(INK > 15, np.nan, INK))
    with pytest.raises(ValueError, match="Input y contains infinity"):
        clone(model).fit(data, np.where(INK > 15, np.inf, INK))
    with pytest.raises(ValueError, match="could not convert string to float: .*'a'"):
        clone(model).fit(data, np.array(["a"] * 36))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clone(model).fit(data, INK[:-1])
    with pytest.raises(ValueError, match="with dim 3"):
        clone(model).fit(data, BOTH[:, :, None])


def test_y_is_needed():
    with pytest.raises(ValueError, match="`y` is needed, as the samples"):
        lite().fit(X)


def test_other_number_of_targets_later():
    message = r"`y` must have {} target\(s\), as in the first `fit`. Got {}."
    model = tiny(freeze=1).fit(ROWS, BOTH)
    with pytest.raises(ValueError, match=message.format(2, 1)):
        model.partial_fit(ROWS, INK)
    with pytest.raises(ValueError, match=message.format(1, 2)):
        tiny(freeze=1).fit(ROWS, INK, X_val=ROWS, y_val=BOTH)


def test_all_weights_are_zero():
    with pytest.raises(ValueError, match="at least one non-zero|have weight zero"):
        tiny().fit(ROWS, INK, sample_weight=np.zeros(36))


@pytest.mark.parametrize(
    "changes",
    [{"quantile": 0}, {"quantile": 1.0}, {"alpha": -1}],
    ids=lambda changes: next(iter(changes)),
)
def test_parameters_are_validated(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"The '{name}' parameter of Fine"):
        tiny(**changes).fit(ROWS, INK)


def test_unknown_loss():
    with pytest.raises(ValueError, match=r"`loss` must be one of \['squared_error'"):
        tiny(loss="l2").fit(ROWS, INK)


def test_loss_given_as_a_callable():
    def squared_error(scores, y):
        return 0.5 * (scores - y).square().mean(1)

    model = tiny(freeze=1, loss=squared_error).fit(ROWS, BOTH)
    expected = tiny(freeze=1).fit(ROWS, BOTH).predict(ROWS_NEW)
    np.testing.assert_allclose(model.predict(ROWS_NEW), expected, rtol=1e-5)
    message = r"`loss` must return .* of shape \(36,\). Got shape \(\); reduce over the"
    with pytest.raises(ValueError, match=message):
        tiny(freeze=1, loss=lambda scores, y: (scores - y).mean()).fit(ROWS, BOTH)
    with pytest.raises(ValueError, match="`training__label_smoothing` must be 0 for a"):
        tiny(training__label_smoothing=0.1).fit(ROWS, INK)


def test_score_of_samples_with_targets_needs_no_y():
    pairs = [(image, float(ink)) for image, ink in zip(X, INK, strict=True)]
    model = lite(freeze="all").fit(pairs)
    assert model.score(pairs) == pytest.approx(model.score(X, INK))
