import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from sktransfer import FineTunedClassifier
from sktransfer.adaptation import MCC, DomainAdaptedClassifier
from tests.adaptation._domains_of_digits import (
    DOMAIN,
    MASKED,
    NEW,
    ROWS,
    SOURCE,
    TARGET,
    Y_NEW,
    FitWithTarget,
    N,
    Network,
    Y,
    classifier,
    outputs,
)

NAMES = np.array(["nought", "one", "two"])


class WithTarget(FitWithTarget, DomainAdaptedClassifier):
    pass


@parametrize_with_checks(
    [WithTarget(FineTunedClassifier(Network, max_epochs=2, random_state=0))]
)
def test_every_check_of_scikit_learn(estimator, check):
    assert estimator.method == "centroids"
    check(estimator)


def test_it_is_a_meta_estimator_with_few_parameters():
    model = DomainAdaptedClassifier()
    assert model.get_params() == {
        "estimator": None,
        "method": "centroids",
        "style": "auto",
    }
    assert is_classifier(model)
    inner = FineTunedClassifier(freeze=3)
    model.set_params(estimator=inner, method=MCC(), method__weight=0.5)
    clone(model).set_params(estimator__freeze="all")
    assert inner.freeze == 3 and model.get_params()["method__weight"] == 0.5
    for own in DomainAdaptedClassifier.__mro__[1:3]:
        assert not issubclass(own, FineTunedClassifier)


@pytest.mark.parametrize("mask", [None, np.nan, "n/a"])
def test_names_of_classes(mask):
    y = np.concatenate([NAMES[Y], np.full(N, mask)], dtype=object)
    domain = DOMAIN if mask == "n/a" else None
    model = classifier("mmd").fit(ROWS, y.tolist(), sample_domain=domain)
    assert model.classes_.tolist() == NAMES.tolist()
    expected = classifier("mmd").fit(ROWS, MASKED).predict(NEW)
    assert model.predict(NEW).tolist() == NAMES[expected].tolist()


def test_minus_one_is_a_class_beside_one_other_or_none():
    y = np.where(MASKED > 0, 1, -1)
    model = classifier("none").fit(ROWS, y)
    assert model.classes_.tolist() == [-1, 1]
    model = classifier("mmd").fit(ROWS, y, sample_domain=DOMAIN)
    assert model.classes_.tolist() == [-1, 1]
    y = np.concatenate([Y - 1, np.full(N, None)])
    model = classifier("mmd").fit(ROWS, y)
    assert model.classes_.tolist() == [-1, 0, 1]
    expected = classifier("mmd").fit(ROWS, MASKED)
    np.testing.assert_array_equal(outputs(model), outputs(expected))


def test_domains_make_no_difference_to_predictions():
    model = classifier("mmd").fit(ROWS, MASKED)
    routed = {"sample_domain": np.full(len(NEW), -1), "allow_source": True}
    probabilities = model.predict_proba(NEW)
    expected = model.estimator_.predict_proba(NEW)
    np.testing.assert_array_equal(probabilities, expected)
    for name in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        predict = getattr(model, name)
        np.testing.assert_array_equal(predict(NEW, **routed), predict(NEW))
    np.testing.assert_allclose(
        np.exp(model.predict_log_proba(NEW)), probabilities, rtol=1e-6
    )
    assert model.score(NEW, Y_NEW, **routed) == np.mean(model.predict(NEW) == Y_NEW)


def test_masked_samples_are_left_out_of_the_score():
    model = classifier("mmd").fit(ROWS, MASKED)
    weight = np.linspace(0, 1, 2 * N)
    for w, of_source in ((None, None), (weight, weight[:N])):
        expected = model.score(SOURCE, Y, of_source)
        assert model.score(ROWS, MASKED, w) == expected
        table = pd.DataFrame(ROWS), pd.Series(MASKED).where(MASKED >= 0)
        assert model.score(*table, w) == expected
    with pytest.raises(ValueError, match=r"labels\. Those of all 48 samples are m"):
        model.score(TARGET, MASKED[N:])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.score(TARGET, MASKED)
    with pytest.warns(UserWarning, match="count as wrong: 7"):
        model.score(TARGET, np.where(MASKED[N:] < 0, 7, 0))


def test_minus_one_that_is_a_class_is_scored():
    model = classifier("none").fit(ROWS, np.where(MASKED > 0, 1, -1))
    expected = np.mean(model.predict(TARGET) == -1)
    assert model.score(TARGET, MASKED[N:]) == expected


def test_schedule_depends_on_the_method():
    method, schedule = "dann", "annealed"
    found = classifier(method).fit(ROWS, MASKED)
    own = classifier(method).set_params(estimator__training__lr_schedule=schedule)
    np.testing.assert_array_equal(outputs(own.fit(ROWS, MASKED)), outputs(found))


def test_multilabel_targets():
    y = np.stack([MASKED == 0, MASKED == 1], axis=1).astype(int)
    y[N:] = -1
    for method in ("adabn", "coral", "mmd", "jmmd", "dann"):
        model = classifier(method, max_epochs=1).fit(ROWS, y)
        assert model.predict(NEW).shape == (len(NEW), 2)
    for method in ("mcc", "pseudo_label", "shot"):
        with pytest.raises(ValueError, match="needs classes that exclude each other"):
            classifier(method).fit(ROWS, y)


@pytest.mark.parametrize(
    ("name", "value"), [("estimator", "resnet"), ("method", 3), ("style", True)]
)
def test_parameters_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of DomainAdaptedC"):
        classifier("none").set_params(**{name: value}).fit(ROWS, MASKED)


def test_domains_are_routed():
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(), classifier("mmd"))
        search = GridSearchCV(
            pipeline,
            {"domainadaptedclassifier__method": ["mmd", "mcc"]},
            cv=ShuffleSplit(1, test_size=0.3, random_state=0),
            error_score="raise",
        )
        search.fit(ROWS, np.tile(Y, 2), sample_domain=DOMAIN)
        scaled = StandardScaler().fit_transform(ROWS)
        method = search.best_params_["domainadaptedclassifier__method"]
        expected = classifier(method).fit(scaled, MASKED, sample_domain=DOMAIN)
        np.testing.assert_array_equal(
            search.predict_proba(ROWS), expected.predict_proba(scaled)
        )


def test_the_boundary_is_searched_with_adaptation():
    search = GridSearchCV(
        classifier(MCC(), max_epochs=1),
        {"estimator__freeze": [1, "all"], "method__weight": [0.5, 2.0]},
        cv=ShuffleSplit(1, test_size=0.3, random_state=0),
        error_score="raise",
    )
    search.fit(ROWS, MASKED)
    assert {*search.best_params_} == {"estimator__freeze", "method__weight"}
    assert torch.is_tensor(next(search.best_estimator_.module_.parameters()))
