import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FineTunedClassifier
from sktransfer.adaptation import DomainAdaptedClassifier
from tests.adaptation._domains_of_digits import (
    DOMAIN,
    MASKED,
    NEW,
    ROWS,
    Y_NEW,
    N,
    Y,
    classifier,
)

NAMES = np.array(["nought", "one", "two"])


def test_it_has_the_parameters_of_fine_tuning_and_three_more():
    own = DomainAdaptedClassifier().get_params()
    plain = FineTunedClassifier().get_params()
    assert {*own} - {*plain} == {"method", "adaptation_weight", "confidence"}
    changed = {k for k in plain if own[k] != plain[k]}
    assert changed == {"augment", "lr_schedule"}
    assert is_classifier(DomainAdaptedClassifier())


def test_documentation_says_what_is_otherwise():
    text = DomainAdaptedClassifier.__doc__
    assert '"annealed", "auto"} or callable, default="auto"' in text
    assert '"strong", "target", "auto"}, callable or None, default="auto"' in text
    assert "style_ : TargetStyle" in text and "{" + "settings}" not in text
    assert "TargetStyle" not in FineTunedClassifier.__doc__


@pytest.mark.parametrize("mask", [None, np.nan, "n/a"])
def test_names_of_classes(mask):
    y = np.concatenate([NAMES[Y], np.full(N, mask)], dtype=object)
    domain = DOMAIN if mask == "n/a" else None
    model = classifier("mmd").fit(ROWS, y.tolist(), sample_domain=domain)
    assert model.classes_.tolist() == NAMES.tolist()
    expected = classifier("mmd").fit(ROWS, MASKED).predict(NEW)
    assert model.predict(NEW).tolist() == NAMES[expected].tolist()


def test_minus_one_is_a_class_of_two():
    y = np.where(MASKED > 0, 1, -1)
    model = classifier("none").fit(ROWS, y)
    assert model.classes_.tolist() == [-1, 1]
    model = classifier("mmd").fit(ROWS, y, sample_domain=DOMAIN)
    assert model.classes_.tolist() == [-1, 1]


@pytest.mark.parametrize(
    "name",
    ["predict", "predict_proba", "predict_log_proba", "decision_function", "score"],
)
def test_domains_make_no_difference_to_predictions(name):
    model = classifier("mmd").fit(ROWS, MASKED)
    predict, given = getattr(model, name), [NEW, Y_NEW] if name == "score" else [NEW]
    found = predict(*given, sample_domain=np.full(len(NEW), -1), allow_source=True)
    np.testing.assert_array_equal(found, predict(*given))


@pytest.mark.parametrize("method", ["dann", "cdan", "mmd"])
def test_schedule_goes_by_the_method(method):
    expected = "annealed" if method != "mmd" else "cosine"
    found = classifier(method).fit(ROWS, MASKED).predict_proba(NEW)
    own = classifier(method, lr_schedule=expected).fit(ROWS, MASKED)
    np.testing.assert_array_equal(own.predict_proba(NEW), found)


def test_confidence_that_none_reaches():
    plain = classifier("none").fit(ROWS, MASKED).predict_proba(NEW)
    never = classifier("pseudo_label", confidence=1.0).fit(ROWS, MASKED)
    often = classifier("pseudo_label", confidence=0.1).fit(ROWS, MASKED)
    np.testing.assert_allclose(never.predict_proba(NEW), plain, rtol=1e-5)
    assert abs(often.predict_proba(NEW) - plain).max() > 1e-4


@pytest.mark.parametrize(
    ("name", "value"),
    [("method", "corral"), ("adaptation_weight", -1), ("confidence", 2)],
)
def test_parameters_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of DomainAdaptedC"):
        clone(classifier("none")).set_params(**{name: value}).fit(ROWS, MASKED)


def test_domains_are_routed():
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(), classifier("mmd"))
        search = GridSearchCV(
            pipeline,
            {"domainadaptedclassifier__method": ["mmd", "mcc"]},
            cv=ShuffleSplit(2, test_size=0.3, random_state=0),
            error_score="raise",
        )
        search.fit(ROWS, np.tile(Y, 2), sample_domain=DOMAIN)
        scaled = StandardScaler().fit_transform(ROWS)
        method = search.best_params_["domainadaptedclassifier__method"]
        expected = classifier(method).fit(scaled, MASKED, sample_domain=DOMAIN)
        np.testing.assert_array_equal(
            search.predict_proba(ROWS), expected.predict_proba(scaled)
        )
