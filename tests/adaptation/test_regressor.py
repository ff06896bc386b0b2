import numpy as np
import pytest
from sklearn.base import is_regressor
from sklearn.metrics import r2_score

from sktransfer import FineTunedRegressor
from sktransfer.adaptation import DomainAdaptedRegressor
from sktransfer.adaptation._methods import REGRESSOR_METHODS
from tests.adaptation._domains_of_digits import (
    DOMAIN,
    INK,
    NEW,
    OFFSET,
    ROWS,
    N,
    regressor,
)

INK_NEW = (NEW - OFFSET).sum(axis=1)


def test_it_has_the_parameters_of_fine_tuning_and_two_more():
    own = DomainAdaptedRegressor().get_params()
    plain = FineTunedRegressor().get_params()
    assert {*own} - {*plain} == {"method", "adaptation_weight"}
    assert {k for k in plain if own[k] != plain[k]} == {"augment", "lr_schedule"}
    assert is_regressor(DomainAdaptedRegressor())


@pytest.mark.parametrize("method", ["adabn", "mmd"])
def test_method_helps_where_there_is_a_gap(method):
    settings = {"max_epochs": 15, "freeze": "none"}
    plain = regressor("none", **settings).fit(ROWS, INK).predict(NEW)
    found = regressor(method, **settings).fit(ROWS, INK).predict(NEW)
    assert r2_score(INK_NEW, found) > r2_score(INK_NEW, plain)


@pytest.mark.parametrize("method", REGRESSOR_METHODS)
def test_several_outputs(method):
    both = np.stack([INK, 3 - 2 * INK], axis=1)
    model = regressor(method).fit(ROWS, both)
    assert model.predict(NEW).shape == (len(NEW), 2)
    some = both.copy()
    some[N:, 0] = 5.0  # a row is masked if all of it is, so here domains have to say
    again = regressor(method).fit(ROWS, some, sample_domain=DOMAIN)
    np.testing.assert_array_equal(again.predict(NEW), model.predict(NEW))


@pytest.mark.parametrize("loss", ["absolute_error", "huber", "quantile"])
def test_other_losses(loss):
    model = regressor("coral", loss=loss).fit(ROWS, INK)
    assert model.score(ROWS[:N], INK[:N], sample_domain=1) > -10


@pytest.mark.parametrize("method", ["cdan", "mcc", "pseudo_label", "shot", "jmmd"])
def test_methods_of_classes(method):
    with pytest.raises(ValueError, match="The 'method' parameter of DomainAdaptedReg"):
        regressor(method).fit(ROWS, INK)
