import inspect
import re

import pytest

from sktransfer import FineTunedClassifier, FineTunedRegressor
from sktransfer.fitting._shared_docs import shares_docs

ESTIMATORS = [FineTunedClassifier, FineTunedRegressor]


def documented(estimator, section):
    """Names that a section of a docstring describes, in order."""
    text = inspect.getdoc(estimator)
    body = re.search(rf"^{section}\n-+\n(.*?)(?=^\S[^\n]*\n-+\n)", text, re.S | re.M)[1]
    lines = re.findall(r"^(\w+(?:, \w+)*) : ", body, re.M)
    return [name for line in lines for name in line.split(", ")]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_documented_parameters_are_those_of_the_constructor(estimator):
    parameters = [*inspect.signature(estimator).parameters]
    assert documented(estimator, "Parameters") == parameters
    assert {*parameters} == {*estimator._parameter_constraints}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_documented_defaults_are_those_of_the_constructor(estimator):
    text = re.sub(r"\s+", " ", inspect.getdoc(estimator))
    for name, parameter in inspect.signature(estimator).parameters.items():
        default = repr(parameter.default).replace("'", '"')
        (found,) = re.findall(rf" {name} : .*?default=(\S+)", text)
        if default.replace(".", "").replace("-", "").replace("e", "").isdigit():
            assert float(found) == float(default), name
        else:
            assert found == default, name


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_all_places_are_filled(estimator):
    places = re.findall(r"\{\w+\}", inspect.getdoc(estimator))
    assert places == []


def test_shared_parameters_have_the_same_text():
    first, second = (documented(estimator, "Attributes") for estimator in ESTIMATORS)
    assert first[2:] == second[1:] and "history_" in first
    shared = {*documented(ESTIMATORS[0], "Parameters")}
    own = shared ^ {*documented(ESTIMATORS[1], "Parameters")}
    assert own == {"C", "class_weight", "alpha", "quantile"}


def test_shares_docs_fills_the_places_and_keeps_the_rest():
    class Estimator:
        """Do something.

            Parameters
            ----------
        {training}
            own : int
        """

    assert shares_docs(Estimator) is Estimator
    assert "Do something." in Estimator.__doc__ and "own : int" in Estimator.__doc__
    assert "max_epochs : int" in Estimator.__doc__
    assert "freeze : int" not in Estimator.__doc__
    assert "{training}" not in Estimator.__doc__


def test_classes_without_a_docstring_stay():
    class Estimator:
        pass

    assert shares_docs(Estimator) is Estimator
    assert Estimator.__doc__ is None
