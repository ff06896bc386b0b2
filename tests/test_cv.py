"""What both estimators that choose by cross-validation have in common."""

import pickle
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

import sktransfer
from sktransfer import (
    FineTunedClassifier,
    FineTunedClassifierCV,
    FineTunedRegressor,
    FineTunedRegressorCV,
    TransferWarning,
)
from sktransfer.activations import process_store
from sktransfer.inspection import FreezeDepthDisplay

DIGITS = load_digits(n_class=3)
X, X_NEW = DIGITS.data[:60] / 16, DIGITS.data[60:160] / 16
Y, Y_NEW = DIGITS.target[:60], DIGITS.target[60:160]
INK = X.sum(axis=1)
DEPTHS = [0, 1, 2, "all"]
WEIGHT = np.random.RandomState(0).randint(1, 4, 60).astype(float)


class Network(nn.Sequential):
    """Three stages with the same weights each time."""

    def __init__(self):
        super().__init__(
            *(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU()),
            *(nn.Linear(16, 8), nn.ReLU()),
        )
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)


def network(**settings):
    settings = {"max_epochs": 2, "lr": 1e-2, "random_state": 0, **settings}
    return FineTunedClassifier(Network, **settings)


def regressor():
    return FineTunedRegressor(Network, max_epochs=2, lr=1e-2, random_state=0)


def search(**settings):
    settings = {"estimator": network(), "freeze": DEPTHS, "cv": 3, **settings}
    return FineTunedClassifierCV(**settings)


def split_scores(results):
    names = sorted(n for n in results if n.startswith("split"))
    return np.stack([results[name] for name in names])


@pytest.fixture(scope="module")
def grid():
    return GridSearchCV(network(), {"freeze": DEPTHS}, cv=3).fit(X, Y)


@pytest.fixture(scope="module")
def halved():
    return search().fit(X, Y)


# Against a grid search


def test_every_score_is_that_of_a_grid_search(grid):
    found = search(halving=False).fit(X, Y)
    ours, theirs = found.cv_results_, grid.cv_results_
    np.testing.assert_array_equal(split_scores(ours), split_scores(theirs))
    for name in ("mean_test_score", "std_test_score", "rank_test_score"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert ours["params"] == theirs["params"]
    assert found.best_score_ == grid.best_score_
    best = grid.cv_results_["rank_test_score"] == 1
    assert found.best_params_ in np.array(theirs["params"])[best].tolist()


def test_scores_of_candidates_that_remain_are_those_of_a_grid_search(grid, halved):
    ours, theirs = split_scores(halved.cv_results_), split_scores(grid.cv_results_)
    trained = ~np.isnan(ours)
    assert trained.sum(axis=1).tolist() == [4, 2]
    np.testing.assert_array_equal(ours[trained], theirs[: len(ours)][trained])
    assert halved.best_score_ == np.nanmean(ours[:, halved.best_index_])
    assert halved.n_splits_ == 3


def test_the_best_candidate_is_fitted_to_all_samples(halved):
    alone = network(**halved.best_params_).fit(X, Y)
    np.testing.assert_array_equal(
        halved.predict_proba(X_NEW), alone.predict_proba(X_NEW)
    )
    np.testing.assert_array_equal(halved.transform(X_NEW), alone.transform(X_NEW))
    assert halved.score(X_NEW, Y_NEW) == alone.score(X_NEW, Y_NEW)


def test_neither_the_order_nor_the_store_changes_the_result(halved, tmp_path):
    process_store().clear()
    backwards = search(freeze=DEPTHS[::-1], estimator=network(memory=tmp_path))
    backwards.fit(X, Y)
    assert backwards.best_params_ == halved.best_params_
    assert backwards.best_score_ == halved.best_score_
    np.testing.assert_array_equal(
        split_scores(backwards.cv_results_)[:, ::-1], split_scores(halved.cv_results_)
    )
    np.testing.assert_array_equal(
        backwards.decision_function(X_NEW), halved.decision_function(X_NEW)
    )


def test_processes_give_the_same_scores(halved, tmp_path):
    found = search(n_jobs=2, estimator=network(memory=tmp_path)).fit(X, Y)
    np.testing.assert_array_equal(
        split_scores(found.cv_results_), split_scores(halved.cv_results_)
    )


# Samples, folds and weights


def test_weights_count_in_trainings_and_scores():
    found = search(freeze=[1], halving=False).fit(X, Y, WEIGHT)
    train, held = next(StratifiedKFold(3).split(X, Y))
    alone = network(freeze=1).fit(X[train], Y[train], WEIGHT[train])
    expected = alone.score(X[held], Y[held], WEIGHT[held])
    assert found.cv_results_["split0_test_score"][0] == expected
    assert expected != alone.score(X[held], Y[held])
    alone = network(freeze=1).fit(X, Y, WEIGHT)
    np.testing.assert_array_equal(
        found.decision_function(X_NEW), alone.decision_function(X_NEW)
    )


def test_a_scorer_without_weights_gets_none():
    def scoring(model, X, y):
        return -len(y)

    found = search(freeze=[1], scoring=scoring).fit(X, Y, WEIGHT)
    assert found.cv_results_["split0_test_score"].tolist() == [-20]
    assert found.score(X_NEW, Y_NEW) == -100


def test_a_scorer_with_weights_gets_them():
    found = search(freeze=[1], scoring=make_scorer(accuracy_score)).fit(X, Y, WEIGHT)
    default = search(freeze=[1]).fit(X, Y, WEIGHT)
    assert found.best_score_ == default.best_score_


def test_groups_are_held_out_together():
    groups = np.repeat(range(6), 10)
    found = search(freeze=[1], cv=GroupKFold(3)).fit(X, Y, groups=groups)
    train, held = next(GroupKFold(3).split(X, Y, groups))
    alone = network(freeze=1).fit(X[train], Y[train])
    assert found.cv_results_["split0_test_score"][0] == alone.score(X[held], Y[held])


def test_groups_and_weights_are_routed():
    with config_context(enable_metadata_routing=True):
        model = search(freeze=[1], cv=GroupKFold(3), refit=False)
        model.set_fit_request(sample_weight=True, groups=True)
        outer = make_pipeline(FunctionTransformer(), model)
        outer.fit(X, Y, sample_weight=WEIGHT, groups=np.repeat(range(6), 10))
    assert outer[-1].cv_results_["n_folds"].tolist() == [1]


@pytest.mark.parametrize("kind", ["frame", "list", "tensor", "folds in any order"])
def test_samples_and_folds_of_any_type(kind, halved):
    model, given, y = search(), X, Y
    if kind == "frame":
        given, y = pd.DataFrame(X).add_prefix("x"), pd.Series(Y)
    elif kind == "list":
        given, y = X.tolist(), Y.tolist()
    elif kind == "tensor":
        given, y = torch.tensor(X), torch.tensor(Y)
    else:
        mix = np.random.default_rng(0).permutation
        folds = StratifiedKFold(3).split(X, Y)
        model.set_params(cv=[(mix(train), mix(held)) for train, held in folds])
    model.fit(given, y)
    np.testing.assert_array_equal(
        split_scores(model.cv_results_), split_scores(halved.cv_results_)
    )
    if kind == "frame":
        assert model.feature_names_in_.tolist() == given.columns.tolist()


def test_labels_of_a_dataset():
    images = torch.tensor(DIGITS.images[:30] / 16).float()[:, None].expand(-1, 3, 8, 8)
    data = torch.utils.data.TensorDataset(images, torch.tensor(Y[:30]))
    model = FineTunedClassifierCV(
        FineTunedClassifier(image_size=32, random_state=0), freeze="all", cv=2
    ).fit(data)
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.score(data) == 1.0


# The fitted estimator


def test_attributes_are_those_of_the_best_estimator(halved):
    best = halved.best_estimator_
    assert halved.freeze_depth_ == best.freeze_depth_
    assert halved.C_ == best.C_ and halved.n_features_in_ == 64
    assert halved.classes_.tolist() == [0, 1, 2]
    assert halved.model_ is best.model_ and halved.history_ is best.history_
    assert halved.model_card_.to_dict() == best.model_card_.to_dict()
    names = best.get_feature_names_out().tolist()
    assert halved.get_feature_names_out().tolist() == names


@pytest.mark.parametrize("name", ["history", "_history_", "no_such_"])
def test_no_other_attributes_are_there(name, halved):
    with pytest.raises(AttributeError, match="has no attribute"):
        getattr(halved, name)


def test_exported_module_predicts_the_same(halved):
    module = halved.to_torch()
    with torch.no_grad():
        found = module(torch.tensor(X_NEW).float()).numpy()
    np.testing.assert_allclose(found, halved.predict_proba(X_NEW), atol=1e-5)


def test_copies_predict_the_same(halved):
    copy = pickle.loads(pickle.dumps(halved))
    np.testing.assert_array_equal(copy.predict(X_NEW), halved.predict(X_NEW))
    assert copy.best_params_ == halved.best_params_
    fresh = clone(halved)
    assert not hasattr(fresh, "cv_results_") and fresh.freeze == DEPTHS
    assert fresh.set_params(estimator__lr=0.5).estimator.lr == 0.5


def test_results_are_drawn_against_the_depth(halved):
    display = FreezeDepthDisplay.from_cv_results(halved)
    assert display.stages[0] == "nothing" and len(display.table) == len(DEPTHS)
    assert display.best == halved.best_index_
    assert len(pd.DataFrame(halved.cv_results_)) == len(DEPTHS)


@pytest.mark.parametrize("kind", [FineTunedClassifierCV, FineTunedRegressorCV])
def test_results_of_the_default_estimator_are_drawn(kind):
    model = kind(freeze=[7, "all"], cv=2, refit=False)
    model.cv_results_ = {
        "params": [{"freeze": 7}, {"freeze": "all"}],
        "mean_test_score": [0.5, 0.6],
        "std_test_score": [0.1, 0.1],
        "mean_fit_time": [1.0, 1.0],
        "std_fit_time": [0.1, 0.1],
    }
    display = FreezeDepthDisplay.from_cv_results(model)
    assert len(display.stages) == 2
    assert display.score_name == ("accuracy" if "Cl" in kind.__name__ else "R²")


def test_without_refit_parameters_are_chosen_alone(halved):
    found = search(refit=False).fit(X, Y)
    assert found.best_params_ == halved.best_params_
    with pytest.raises(NotFittedError, match="Set `refit=True`, and `fit` again"):
        found.predict(X_NEW)
    with pytest.raises(AttributeError, match="no attribute 'history_'"):
        _ = found.history_


def test_a_second_fit_without_refit_keeps_no_estimator():
    found = search(freeze=[1]).fit(X, Y)
    found.set_params(refit=False).fit(X, Y)
    assert not hasattr(found, "best_estimator_") and not hasattr(found, "refit_time_")


# Errors and warnings


def test_before_fit():
    with pytest.raises(NotFittedError, match="Call `fit` first"):
        search().predict(X)


def test_an_error_names_the_candidate_and_the_fold():
    with pytest.raises(ValueError, match="`freeze` must be one of") as error:
        search(freeze=[1, "layr3"]).fit(X, Y)
    assert error.value.__notes__ == [
        "Raised for {'freeze': 'layr3'} in fold 0, whose samples are counted from 0."
    ]


def test_a_failed_fit_changes_nothing(halved):
    copy = pickle.loads(pickle.dumps(halved))
    before = {*vars(copy)}
    with pytest.raises(ValueError, match="n_splits"):
        copy.set_params(cv=50).fit(X, Y)
    assert {*vars(copy)} == before
    assert copy.best_params_ == halved.best_params_


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": []}, r"`freeze` must hold at least one value. Got \[\]."),
        ({"freeze": None}, "The 'freeze' parameter"),
        ({"estimator": regressor()}, "must be an instance of .*FineTunedClassifier"),
        ({"estimator": nn.Linear(2, 2)}, "The 'estimator' parameter"),
        ({"halving": 3}, "The 'halving' parameter"),
        ({"refit": "score"}, "The 'refit' parameter"),
        ({"cv": 1}, "The 'cv' parameter"),
    ],
)
def test_wrong_parameters(settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        search(**settings).fit(X, Y)


def test_targets_are_needed():
    with pytest.raises(ValueError, match="requires y to be passed"):
        search().fit(X)


def test_only_the_last_fit_warns():
    # `lr` has no effect on the candidate that trains no stages.
    with warnings.catch_warnings():
        warnings.simplefilter("error", TransferWarning)
        found = search(freeze=[1, "all"], scoring=_prefers_training).fit(X, Y)
        assert found.best_params_ == {"freeze": 1}
    with pytest.warns(TransferWarning, match="no effect"):
        search(freeze="all").fit(X, Y)


def test_parameters_with_an_effect_at_another_depth_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error", TransferWarning)
        found = search(freeze=[1, "all"], scoring=_prefers_probes).fit(X, Y)
    assert found.best_params_ == {"freeze": "all"}


def _prefers_probes(model, X, y):
    return -model.n_trainable_parameters_


def _prefers_training(model, X, y):
    return model.n_trainable_parameters_


def test_settings_apply_in_processes():
    with sktransfer.config_context(activation_dtype="float32"):
        one = search(freeze=[1]).fit(X, Y)
        two = search(freeze=[1], n_jobs=2).fit(X, Y)
    assert one.best_score_ == two.best_score_


def test_threads_of_a_search_leave_the_filters_of_warnings_as_they_were():
    before = list(warnings.filters)
    model = search(freeze="all", C=[0.1, 0.5, 1, 5, 10, 50], n_jobs=2)
    with joblib.parallel_config(backend="threading"):
        for _ in range(3):
            model.fit(X, Y)
    assert warnings.filters == before


def test_folds_may_be_masks_and_negative_positions():
    rows = np.arange(len(X))
    mask = rows % 2 == 0
    folds = [(mask, ~mask), (rows[:30] - 60, rows[30:] - 60)]
    same = [(rows[mask], rows[~mask]), (rows[:30], rows[30:])]
    found, expected = (
        split_scores(search(cv=cv, halving=False).fit(list(X), Y).cv_results_)
        for cv in (folds, same)
    )
    assert np.array_equal(found, expected)
    with pytest.raises(ValueError, match="`cv` must give at least one split"):
        search(cv=[]).fit(X, Y)


def test_scoring_gives_one_number():
    with pytest.raises(ValueError, match="`scoring` must give one number. Got {'a': 1"):
        search(scoring=lambda *args: {"a": 1}).fit(X, Y)
