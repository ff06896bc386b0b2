import numpy as np
import pytest
from sklearn.base import is_regressor
from sklearn.metrics import r2_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from sktransfer import FineTunedRegressor
from sktransfer.adaptation import JMMD, DomainAdaptedRegressor
from tests.adaptation._domains_of_digits import (
    DOMAIN,
    INK,
    NEW,
    OFFSET,
    ROWS,
    FitWithTarget,
    N,
    WideNetwork,
    regressor,
)


class WithTarget(FitWithTarget, DomainAdaptedRegressor):
    pass


@parametrize_with_checks(
    [
        WithTarget(
            FineTunedRegressor(WideNetwork, freeze=1, max_epochs=2, random_state=0)
        )
    ]
)
def test_every_check_of_scikit_learn(estimator, check):
    assert estimator.method == "mmd"
    check(estimator)


INK_NEW = (NEW - OFFSET).sum(axis=1)


def test_it_is_a_meta_estimator_with_few_parameters():
    model = DomainAdaptedRegressor()
    assert model.get_params() == {"estimator": None, "method": "mmd", "style": "auto"}
    assert is_regressor(model) and not hasattr(model, "predict_proba")


@pytest.mark.parametrize("method", ["adabn", "mmd"])
def test_method_helps_where_there_is_a_gap(method):
    settings = {"max_epochs": 15, "freeze": "none"}
    plain = regressor("none", **settings).fit(ROWS, INK).predict(NEW)
    model = regressor(method, **settings).fit(ROWS, INK)
    found = model.predict(NEW)
    assert r2_score(INK_NEW, found) > r2_score(INK_NEW, plain)
    assert model.score(NEW, INK_NEW, sample_domain=-1) == r2_score(INK_NEW, found)


def test_several_outputs():
    both = np.stack([INK, 3 - 2 * INK], axis=1)
    model = regressor("mmd").fit(ROWS, both)
    assert model.predict(NEW).shape == (len(NEW), 2)
    assert model.score(ROWS, both) == model.score(ROWS[:N], both[:N])  # without masked
    some = both.copy()
    some[N:, 0] = 5.0  # a row is masked if all of it is, so here domains have to say
    again = regressor("mmd").fit(ROWS, some, sample_domain=DOMAIN)
    np.testing.assert_array_equal(again.predict(NEW), model.predict(NEW))


@pytest.mark.parametrize("loss", ["absolute_error", "huber"])
def test_other_losses(loss):
    model = regressor("coral", loss=loss).fit(ROWS, INK)
    assert model.score(ROWS[:N], INK[:N], sample_domain=1) > -10


def test_methods_for_classes_are_refused():
    for method in ("mcc", "pseudo_label", "shot", "jmmd", JMMD()):
        with pytest.raises(ValueError, match="is for classes. A regressor can take"):
            regressor(method).fit(ROWS, INK)
