from unittest.mock import patch

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sktransfer.adaptation import (
    MCC,
    MMD,
    AdaptationMethod,
    NoAdaptation,
    PseudoLabels,
    list_methods,
    register_method,
)
from sktransfer.adaptation._methods import resolve_method, source_free_methods
from sktransfer.training import ADAPTATION_METHODS


def mean_distance(source, target, progress):
    return (source.features.mean(0) - target.features.mean(0)).square().sum()


def test_built_in_methods_are_registered_by_their_names():
    names = [
        "none",
        "centroids",
        "adabn",
        "shot",
        "coral",
        "mmd",
        "jmmd",
        "dann",
        "mcc",
    ]
    assert list_methods() == [*names, "pseudo_label"]
    assert source_free_methods() == ["centroids", "adabn", "shot"]
    for name in list_methods():
        method = resolve_method(name)
        assert method.name == name and isinstance(method, AdaptationMethod)
        assert clone(method).get_params() == method.get_params()
        assert method.needs_source or method.make_objective(5, 3, False, 0) is None


def test_instances_keep_their_parameters():
    for method in (MCC(weight=0.5, temperature=1.0), PseudoLabels(confidence=0.5)):
        assert resolve_method(method) is method
    assert NoAdaptation().get_params() == {}


def test_functions_and_modules_are_objectives():
    method = resolve_method(mean_distance)
    assert method.name == "mean_distance" and method.needs_source
    assert method.make_objective(5, 3, False, 0) is mean_distance
    module = nn.Linear(2, 1)
    trained = resolve_method(module).make_objective(5, 3, False, 0)
    assert trained is not module and torch.equal(trained.weight, module.weight)
    assert resolve_method(module).name == "Linear"


@patch.dict(ADAPTATION_METHODS)
def test_a_registered_method_has_a_name():

    class Mean(AdaptationMethod):
        def make_objective(self, n_features, n_outputs, is_multilabel, seed):
            return mean_distance

    register_method("mean", Mean)
    assert isinstance(resolve_method("mean"), Mean)
    assert list_methods()[-1] == "mean"
    with pytest.raises(
        ValueError, match="those of the built-in adaptation methods.* Got 'mcc'"
    ):
        register_method("mcc", Mean)
    assert isinstance(resolve_method("mcc"), MCC)


@pytest.mark.parametrize("bad", [MMD(), print, "mmd"], ids=["instance", "f", "str"])
def test_registering_other_objects_raises(bad):
    with pytest.raises(TypeError, match="`method` must be a subclass of Adaptation"):
        register_method("other", bad)


def test_a_method_that_needs_the_source_has_an_objective():
    class Nothing(AdaptationMethod):
        """Method without an objective."""

    with pytest.raises(TypeError, match="must define make_objective if it needs the"):
        register_method("nothing", Nothing)


def test_invalid_methods_raise():
    message = r"`method` must be one of \['none', .* Got 'corral'\. Did you mean 'coral"
    with pytest.raises(ValueError, match=message):
        resolve_method("corral")
    for bad in (MMD, 3):
        with pytest.raises(TypeError, match="an AdaptationMethod or a callable. Got"):
            resolve_method(bad)
    for weight in (-1, "much"):
        with pytest.raises(ValueError, match=r"`weight` of MCC must be at least 0\. "):
            resolve_method(MCC(weight=weight))
    assert np.isfinite(resolve_method(MCC(weight=0)).weight)
