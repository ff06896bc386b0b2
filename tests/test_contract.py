"""scikit-learn's contract: every check on every estimator, and its meta-estimators."""

from unittest import SkipTest

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    StratifiedKFold,
    cross_validate,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator
from torch import nn

import sktransfer
from sktransfer import (
    FineTunedClassifier,
    FineTunedClassifierCV,
    FineTunedRegressor,
    FineTunedRegressorCV,
    PretrainedFeatureExtractor,
    advice,
)
from sktransfer.advice import BackboneRanker, TransferAdvisor


# Classes, not functions: their repr, which is part of the ids of the tests, is the same
# in every process.
class VectorNetwork(nn.Sequential):
    def __init__(self, width=16):
        super().__init__(
            nn.LazyLinear(width), nn.ReLU(), nn.Linear(width, width // 2), nn.ReLU()
        )


class WideNetwork(VectorNetwork):
    def __init__(self):
        super().__init__(128)


class ImageNetwork(nn.Sequential):
    """Tiny network for images, the same each time."""

    pretrained_cfg = {
        "input_size": (3, 8, 20),
        "crop_mode": "squash",
        "crop_pct": 1.0,
        "interpolation": "nearest",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.1, 0.1, 0.1),
    }

    def __init__(self):
        layers = nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 2), nn.ReLU()
        super().__init__(*layers)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)


# A head alone, and the defaults, which train: these differ in what `fit` does.
VECTOR_ESTIMATORS = {
    "extractor": PretrainedFeatureExtractor(VectorNetwork),
    "classifier": FineTunedClassifier(VectorNetwork, freeze="all"),
    "classifier that trains": FineTunedClassifier(VectorNetwork, max_epochs=5),
    "regressor": FineTunedRegressor(WideNetwork, freeze="all"),
    "regressor that trains": FineTunedRegressor(WideNetwork, max_epochs=2),
    "searched classifier": FineTunedClassifierCV(
        FineTunedClassifier(VectorNetwork, random_state=0), freeze="all", cv=2
    ),
    "searched regressor": FineTunedRegressorCV(
        FineTunedRegressor(WideNetwork, random_state=0), freeze="all", cv=2
    ),
    "advisor": TransferAdvisor(VectorNetwork),
    "ranker": BackboneRanker([VectorNetwork]),
}

# Checks of constructors, parameters and tags, which are those of the class: one
# estimator of each is checked.
OF_THE_CLASS = [
    "do_not_raise_errors_in_init_or_set_params",
    "estimator_cloneable",
    "estimator_repr",
    "estimator_tags_renamed",
    "estimators_unfitted",
    "get_params_invariance",
    "mixin_order",
    "no_attributes_set_in_init",
    "parameters_default_constructible",
    "set_params",
    "valid_tag_types",
]


def every_check(estimators, all_of=()):
    """Parametrise a test with the checks of estimators, by name.

    Those of `all_of` get the checks of their class, too.
    """
    cases = []
    for name, estimator in estimators.items():
        for copy, check in estimator_checks_generator(estimator):
            what = check.func.__name__.removeprefix("check_")
            if name in all_of or what not in OF_THE_CLASS:
                cases.append(pytest.param(copy, check, id=f"{name}-{what}"))
    return pytest.mark.parametrize(("estimator", "check"), cases)


def run(check, estimator):
    """Run a check, which must not skip itself."""
    try:
        check(estimator)
    except SkipTest as reason:
        raise AssertionError(f"{check.func.__name__} was skipped") from reason


@every_check(
    VECTOR_ESTIMATORS,
    all_of=[
        *("extractor", "classifier", "regressor", "advisor", "ranker"),
        *("searched classifier", "searched regressor"),
    ],
)
def test_every_check_on_vectors(estimator, check):
    run(check, estimator)


def test_every_estimator_is_checked():
    public = [
        getattr(package, name)
        for package in (sktransfer, advice)
        for name in package.__all__
    ]
    estimators = {e for e in public if isinstance(e, type) and hasattr(e, "fit")}
    assert estimators == {type(e) for e in VECTOR_ESTIMATORS.values()}
    assert estimators - SEARCHES == {type(e) for e in IMAGE_ESTIMATORS.values()}


# scikit-learn makes rows of numbers. They are images, too: one row of pixels, as wide
# as the check makes them. Checks that are not listed here make rows of several widths,
# or none.
WIDTHS = {
    1: ["complex_data", "fit2d_1feature"],
    2: [
        "class_weight_classifiers",
        "classifier_data_not_an_array",
        "classifiers_classes",
        "classifiers_multilabel_output_format_decision_function",
        "classifiers_multilabel_output_format_predict",
        "classifiers_multilabel_output_format_predict_proba",
        "classifiers_multilabel_representation_invariance",
        "classifiers_train",
        "decision_proba_consistency",
        "estimators_fit_returns_self",
        "estimators_overwrite_params",
        "estimators_partial_fit_n_features",
        "fit_check_is_fitted",
        "fit_idempotent",
        "n_features_in",
        "readonly_memmap_input",
        "requires_y_none",
        "sample_weights_not_an_array",
        "sample_weights_not_overwritten",
        "sample_weights_pandas_series",
        "sample_weights_shape",
    ],
    4: [
        "n_features_in_after_fitting",
        "positive_only_tag_during_fit",
        "regressors_no_decision_function",
    ],
    5: ["estimators_dtypes"],
    10: [
        "array_api_input",
        "classifiers_one_label_sample_weights",
        "classifiers_regression_target",
        "dtype_object",
        "fit2d_1sample",
        "regressor_data_not_an_array",
        "regressor_multioutput",
        "regressors_int",
        "regressors_train",
    ],
    20: ["all_zero_sample_weights_error"],
    30: ["sample_weight_equivalence_on_dense_data"],
}
WIDTH_OF = {f"check_{name}": width for width, names in WIDTHS.items() for name in names}
WIDE_RANGE = {
    "check_class_weight_classifiers",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_n_features_in",
}
AS_IMAGES = {"image_shape": (1, 3), "value_range": (-16, 16)}
IMAGE_ESTIMATORS = {
    "extractor": PretrainedFeatureExtractor(ImageNetwork, **AS_IMAGES),
    "classifier": FineTunedClassifier(ImageNetwork, max_epochs=5, **AS_IMAGES),
    "regressor": FineTunedRegressor(
        ImageNetwork, pooling="flatten", max_epochs=5, **AS_IMAGES
    ),
    "advisor": TransferAdvisor(ImageNetwork, **AS_IMAGES),
    "ranker": BackboneRanker([ImageNetwork], **AS_IMAGES),
}
# Everything that concerns images is left to the classifier and the regressor.
SEARCHES = {FineTunedClassifierCV, FineTunedRegressorCV}


@every_check(IMAGE_ESTIMATORS)
def test_every_check_on_images(estimator, check):
    name = check.func.__name__
    estimator.set_params(image_shape=(1, WIDTH_OF.get(name, 3)))
    if name in WIDE_RANGE:
        estimator.set_params(value_range=(-128, 128))
    run(check, estimator)


# Meta-estimators. What they fitted is fitted again by hand, on the rows, targets and
# weights that they should have passed on, and has to predict the same.

DIGITS = load_digits(n_class=3)
X, X_NEW = DIGITS.data[:60] / 16, DIGITS.data[60:120] / 16
Y = DIGITS.target[:60]
WEIGHT = np.random.RandomState(0).uniform(0, 3, 60).round(1)


def classifier(**settings):
    settings = {"freeze": 1, "max_epochs": 2, "lr": 1e-2, "random_state": 0, **settings}
    return FineTunedClassifier(VectorNetwork, **settings)


def regressor():
    return FineTunedRegressor(
        VectorNetwork, freeze=1, max_epochs=2, lr=1e-2, random_state=0
    )


def assert_fitted_on(model, X, y, sample_weight=None):
    """Assert that a fitted model is what fitting it on these gives."""
    method = "predict_proba" if is_classifier(model) else "predict"
    again = clone(model).fit(X, y, sample_weight=sample_weight)
    expected = getattr(again, method)(X_NEW)
    np.testing.assert_allclose(getattr(model, method)(X_NEW), expected, rtol=1e-6)


@pytest.fixture
def _routing():
    with config_context(enable_metadata_routing=True):
        yield


@pytest.fixture
def weighted(_routing):
    return classifier().set_fit_request(sample_weight=True)


def test_weights_matter():
    plain, weighted = classifier().fit(X, Y), classifier().fit(X, Y, WEIGHT)
    difference = plain.predict_proba(X_NEW) - weighted.predict_proba(X_NEW)
    assert abs(difference).max() > 0.01


def test_weights_through_pipeline(weighted):
    pipeline = make_pipeline(FunctionTransformer(), weighted)
    pipeline.fit(X, Y, sample_weight=WEIGHT)
    assert_fitted_on(pipeline[-1], X, Y, WEIGHT)


def test_weights_through_grid_search(weighted):
    weighted.set_score_request(sample_weight=True)
    search = GridSearchCV(weighted, {"freeze": [1, "all"]}, cv=3, error_score="raise")
    search.fit(X, Y, sample_weight=WEIGHT)
    assert_fitted_on(search.best_estimator_, X, Y, WEIGHT)
    train, test = next(StratifiedKFold(3).split(X, Y))
    first = classifier().fit(X[train], Y[train], WEIGHT[train])
    score = accuracy_score(Y[test], first.predict(X[test]), sample_weight=WEIGHT[test])
    assert search.cv_results_["split0_test_score"][0] == pytest.approx(score)


def test_weights_through_cross_validate(weighted):
    weighted.set_score_request(sample_weight=False)
    found = cross_validate(
        weighted,
        X,
        Y,
        cv=StratifiedKFold(3),
        params={"sample_weight": WEIGHT},
        return_estimator=True,
        return_indices=True,
    )
    for model, rows in zip(found["estimator"], found["indices"]["train"], strict=True):
        assert_fitted_on(model, X[rows], Y[rows], WEIGHT[rows])


def test_weights_through_stacking(weighted):
    last = LogisticRegression().set_fit_request(sample_weight=True)
    stack = StackingClassifier([("network", weighted)], final_estimator=last, cv=3)
    stack.fit(X, Y, sample_weight=WEIGHT)
    assert_fitted_on(stack.estimators_[0], X, Y, WEIGHT)


def test_weights_through_calibration(weighted):
    folds = StratifiedKFold(3)
    calibrated = CalibratedClassifierCV(weighted, cv=folds)
    calibrated.fit(X, Y, sample_weight=WEIGHT)
    for fitted, (rows, _) in zip(
        calibrated.calibrated_classifiers_, folds.split(X, Y), strict=True
    ):
        assert_fitted_on(fitted.estimator, X[rows], Y[rows], WEIGHT[rows])


def test_weights_through_boosting():
    boosted = AdaBoostClassifier(
        classifier(freeze="all"), n_estimators=2, random_state=0
    )
    boosted.fit(X, Y, sample_weight=WEIGHT)
    first, second = boosted.estimators_
    weight = WEIGHT / WEIGHT.sum()
    assert_fitted_on(first, X, Y, weight)
    wrong = first.predict(X) != Y
    weight = weight * np.exp(boosted.estimator_weights_[0] * wrong)
    assert_fitted_on(second, X, Y, weight / weight.sum())


def test_weights_through_one_versus_rest(weighted):
    each = OneVsRestClassifier(weighted).fit(X, Y, sample_weight=WEIGHT)
    for label, model in enumerate(each.estimators_):
        assert_fitted_on(model, X, (label == Y).astype(int), WEIGHT)


@pytest.mark.usefixtures("_routing")
def test_weights_through_multi_output():
    targets = np.stack([X.sum(axis=1), X[:, 20] - X[:, 30]], axis=1)
    each = MultiOutputRegressor(regressor().set_fit_request(sample_weight=True))
    each.fit(X, targets, sample_weight=WEIGHT)
    for column, model in enumerate(each.estimators_):
        assert_fitted_on(model, X, targets[:, column], WEIGHT)


@pytest.mark.usefixtures("_routing")
def test_bagging():
    bag = BaggingClassifier(classifier(), n_estimators=2, random_state=0).fit(X, Y)
    for model, rows in zip(bag.estimators_, bag.estimators_samples_, strict=True):
        assert_fitted_on(model, X[rows], Y[rows])


def test_weights_through_bagging(weighted):
    bag = BaggingClassifier(weighted, n_estimators=2, random_state=0)
    bag.fit(X, Y, sample_weight=WEIGHT * (Y > 0))
    assert {*bag.predict(X)} == {1, 2}


def test_halving_search_over_epochs():
    search = HalvingGridSearchCV(
        classifier(),
        {"lr": [1e-4, 1e-3, 1e-2, 2e-2]},
        resource="max_epochs",
        min_resources=2,
        max_resources=8,
        factor=2,
        cv=2,
        random_state=0,
        error_score="raise",
    ).fit(X, Y)
    assert search.n_resources_ == [2, 4, 8]
    assert search.best_estimator_.max_epochs == 8
    assert len(search.best_estimator_.history_) == 8


# Images beside other columns


@pytest.fixture
def table(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(60)]
    for path, image in zip(paths, DIGITS.images, strict=False):
        Image.fromarray((15 * image).astype(np.uint8)).save(path)
    return pd.DataFrame({"path": paths, "ink": X.sum(axis=1), "row": range(60)})


def image_extractor():
    return PretrainedFeatureExtractor(ImageNetwork, pooling="avgmax")


def test_column_transformer_with_paths(table):
    both = ColumnTransformer(
        [("image", image_extractor(), ["path"]), ("rest", StandardScaler(), ["ink"])],
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    features = both.fit_transform(table)
    alone = image_extractor().fit_transform(table["path"])
    np.testing.assert_array_equal(features.iloc[:, :-1], alone)
    names = [f"2_{i}" for i in range(alone.shape[1])]
    assert features.columns.tolist() == [*names, "ink"]
    assert features.index.equals(table.index)
    model = make_pipeline(both, StandardScaler(), LogisticRegression(C=10))
    assert model.fit(table[:40], Y[:40]).score(table[40:], Y[40:]) > 0.6


def test_column_by_name_is_as_good_as_a_table_of_one(table):
    by_name = ColumnTransformer([("image", image_extractor(), "path")])
    by_list = ColumnTransformer([("image", image_extractor(), ["path"])])
    np.testing.assert_array_equal(
        by_name.fit_transform(table), by_list.fit_transform(table)
    )


def test_feature_union():
    union = FeatureUnion(
        [("network", image_extractor()), ("deep", image_extractor())]
    ).set_params(deep__stage="0")
    features = union.fit_transform(DIGITS.images[:20] / 16)
    assert features.shape == (20, 2 * 16 + 2 * 8)
    last = image_extractor().fit_transform(DIGITS.images[:20] / 16)
    np.testing.assert_array_equal(features[:, :32], last)


def test_output_as_a_table():
    model = classifier().set_output(transform="pandas").fit(X, Y)
    features = model.transform(pd.DataFrame(X_NEW, index=range(100, 160)))
    assert features.columns.tolist() == [f"finetunedclassifier{i}" for i in range(8)]
    assert features.index.tolist() == [*range(100, 160)]
