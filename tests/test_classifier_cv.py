import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from torch import nn

from sktransfer import FineTunedClassifier, FineTunedClassifierCV

DIGITS = load_digits(n_class=3)
X, X_NEW = DIGITS.data[:60] / 16, DIGITS.data[60:160] / 16
Y = DIGITS.target[:60]


def make_network():
    return nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())


def network(**settings):
    settings = {"max_epochs": 2, "lr": 1e-2, "random_state": 0, **settings}
    return FineTunedClassifier(make_network, **settings)


def test_depth_and_penalty_as_in_a_grid_search():
    grid = {"freeze": [1, "all"], "C": [1e-4, 1.0, "auto"]}
    found = FineTunedClassifierCV(network(), **grid, cv=3, halving=False).fit(X, Y)
    reference = GridSearchCV(network(), grid, cv=3).fit(X, Y)
    ours, theirs = found.cv_results_, reference.cv_results_
    assert ours["params"] == theirs["params"]
    for name in theirs:
        if "test" in name:
            np.testing.assert_array_equal(ours[name], theirs[name])
    assert found.C_ == found.best_estimator_.C_
    assert ours["param_C"].tolist() == theirs["param_C"].tolist()


def test_the_smaller_of_equally_good_penalties_is_chosen():
    model = FineTunedClassifierCV(
        network(), freeze="all", C=[3.0, 1.0, "auto", 2.0], cv=2, scoring=_constant
    ).fit(X, Y)
    assert model.best_params_ == {"C": "auto", "freeze": "all"}
    model.set_params(C=[3.0, 1.0, 2.0]).fit(X, Y)
    assert model.best_params_ == {"C": 1.0, "freeze": "all"}


def _constant(model, X, y):
    return 0.5


def test_the_deepest_of_equally_good_boundaries_is_chosen():
    model = FineTunedClassifierCV(
        network(), freeze=[0, 1, "all"], cv=2, scoring=_constant
    ).fit(X, Y)
    assert model.best_params_ == {"freeze": "all"}


def test_penalty_of_the_estimator_by_default():
    model = FineTunedClassifierCV(network(C=0.5), freeze="all", cv=2).fit(X, Y)
    assert model.C_ == 0.5 and model.best_params_ == {"freeze": "all"}


def test_probabilities_of_multilabel_targets():
    labels = np.stack([Y == 0, Y > 1], axis=1).astype(int)
    model = FineTunedClassifierCV(network(), freeze=[1, "all"], cv=2).fit(X, labels)
    assert model.predict_proba(X_NEW).shape == (100, 2)
    np.testing.assert_allclose(
        np.exp(model.predict_log_proba(X_NEW)), model.predict_proba(X_NEW)
    )
    assert model.decision_function(X_NEW).shape == (100, 2)


def test_strings_as_labels():
    names = np.array(["zero", "one", "two"])[Y]
    model = FineTunedClassifierCV(network(), freeze=[1, "all"], cv=2).fit(X, names)
    assert {*model.predict(X_NEW)} <= {"zero", "one", "two"}


@pytest.mark.parametrize("C", [0, -1.0, "best"])
def test_wrong_penalties(C):
    with pytest.raises(ValueError, match="The 'C' parameter"):
        FineTunedClassifierCV(network(), freeze=[1], C=C).fit(X, Y)
    with pytest.raises(ValueError, match="The 'C' parameter of FineTunedClassifier"):
        FineTunedClassifierCV(network(), freeze=[1], C=[C]).fit(X, Y)
