import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from torch import nn

from sktransfer import FineTunedRegressor, FineTunedRegressorCV

DIGITS = load_digits(n_class=3)
X, X_NEW = DIGITS.data[:60] / 16, DIGITS.data[60:160] / 16
Y = np.stack([X.sum(axis=1), X[:, 20]], axis=1)


def make_network():
    return nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())


def network(**settings):
    settings = {"max_epochs": 2, "lr": 1e-2, "random_state": 0, **settings}
    return FineTunedRegressor(make_network, **settings)


def test_depth_and_penalty_as_in_a_grid_search():
    grid = {"freeze": [1, "all"], "alpha": [0.1, 10.0]}
    scoring = "neg_mean_absolute_error"
    found = FineTunedRegressorCV(
        network(), **grid, cv=3, halving=False, scoring=scoring
    ).fit(X, Y)
    reference = GridSearchCV(network(), grid, cv=3, scoring=scoring).fit(X, Y)
    ours, theirs = found.cv_results_, reference.cv_results_
    assert ours["params"] == theirs["params"]
    for name in theirs:
        if "test" in name:
            np.testing.assert_array_equal(ours[name], theirs[name])
    assert found.best_params_ == reference.best_params_
    np.testing.assert_array_equal(found.predict(X_NEW), reference.predict(X_NEW))
    assert found.score(X_NEW, found.predict(X_NEW)) == 0.0  # the error, not R²


def test_the_larger_of_equally_good_penalties_is_chosen():
    model = FineTunedRegressorCV(
        network(), freeze="all", alpha=[1.0, 3.0, 2.0], cv=2, scoring=_constant
    ).fit(X, Y)
    assert model.best_params_ == {"alpha": 3.0, "freeze": "all"}
    assert model.alpha_ == 3.0


def _constant(model, X, y):
    return 0.5


def test_score_is_r2_by_default():
    model = FineTunedRegressorCV(network(), freeze=["all"], cv=2).fit(X, Y)
    assert model.score(X, Y) == model.best_estimator_.score(X, Y)


@pytest.mark.parametrize("alpha", [-1.0, "best"])
def test_wrong_penalties(alpha):
    with pytest.raises(ValueError, match="The 'alpha' parameter"):
        FineTunedRegressorCV(network(), freeze=[1], alpha=alpha).fit(X, Y)
