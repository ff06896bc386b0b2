"""Adapting what was fitted, by the target alone."""

import pickle

import numpy as np
import pytest
import skops.io
import torch

from sktransfer import config_context
from sktransfer.adaptation._methods import SOURCE_FREE
from tests.adaptation._domains_of_digits import (
    MASKED,
    NEW,
    ROWS,
    SOURCE,
    TARGET,
    Y,
    classifier,
)
from tests.adaptation.test_adapted import BOTH, JOINT, LABELS, X, lite, outputs


@pytest.fixture(autouse=True)
def _exact():
    """Round nothing that is kept, so that values can be compared."""
    with config_context(activation_dtype="float32"):
        yield


@pytest.mark.parametrize("method", SOURCE_FREE)
def test_adapting_later_is_adapting_in_fit(method):
    whole = classifier(method).fit(ROWS, MASKED)
    later = classifier(method).fit(SOURCE, Y)
    plain = outputs(later)
    assert later.adapt(TARGET) is later
    np.testing.assert_allclose(outputs(later), outputs(whole), rtol=1e-5, atol=1e-6)
    assert abs(outputs(later) - plain).max() > 1e-3


def test_shot_leaves_the_head():
    model = classifier("shot").fit(SOURCE, Y)
    before = [p.detach().clone() for p in model.module_.network.head.parameters()]
    model.adapt(TARGET)
    after = model.module_.network.head.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.requires_grad for p in model.module_.network.head.parameters())
    assert model.history_["epoch"].tolist() == [1, 2, 3, 4]


def test_adabn_starts_from_the_source_each_time():
    model = classifier("adabn").fit(SOURCE, Y).adapt(NEW)
    again = classifier("adabn").fit(SOURCE, Y).adapt(TARGET).adapt(NEW)
    np.testing.assert_array_equal(outputs(model), outputs(again))


@pytest.mark.parametrize("method", SOURCE_FREE)
def test_adapting_a_pickle(method):
    model = classifier(method).fit(SOURCE, Y)
    again = pickle.loads(pickle.dumps(model))
    expected = outputs(model.adapt(TARGET))
    np.testing.assert_allclose(outputs(again.adapt(TARGET)), expected, rtol=1e-5)


def test_adapting_what_skops_has_kept():
    model = lite("adabn").fit(X, LABELS)
    with config_context(slim_pickles=True):
        data = skops.io.dumps(model)
    trusted = skops.io.get_untrusted_types(data=data)
    assert trusted == ["sktransfer.adaptation._classifier.DomainAdaptedClassifier"]
    again = skops.io.loads(data, trusted=trusted).adapt(BOTH[30:])
    np.testing.assert_allclose(
        again.predict_proba(BOTH), model.adapt(BOTH[30:]).predict_proba(BOTH), rtol=1e-5
    )


def test_source_only_can_be_adapted_afterwards():
    model = classifier("none").fit(SOURCE, Y).set_params(method="shot")
    expected = classifier("shot").fit(SOURCE, Y).adapt(TARGET)
    np.testing.assert_array_equal(outputs(model.adapt(TARGET)), outputs(expected))


def test_adabn_has_to_be_fitted_as_such():
    model = classifier("none").fit(SOURCE, Y).set_params(method="adabn")
    with pytest.raises(ValueError, match=r"measured in `fit` with that method\. Fit"):
        model.adapt(TARGET)


def test_source_is_measured_anew_by_each_fit():
    model = classifier("adabn").fit(SOURCE, Y)
    model.set_params(method="none").fit(SOURCE * 5 + 7, Y).set_params(method="adabn")
    with pytest.raises(ValueError, match=r"measured in `fit` with that method\. Fit"):
        model.adapt(TARGET)


@pytest.mark.parametrize("moved", ["adapt", "partial_fit"])
def test_source_is_forgotten_where_the_weights_move(moved):
    model = classifier("adabn").fit(SOURCE, Y)
    if moved == "adapt":
        model.set_params(method="shot").adapt(TARGET)
    else:
        model.set_params(method="none").partial_fit(SOURCE, Y)
    with pytest.raises(ValueError, match=r"measured in `fit` with that method\. Fit"):
        model.set_params(method="adabn").adapt(TARGET)


def test_adapting_needs_stages_that_were_trained():
    model = classifier("none", freeze="all").fit(SOURCE, Y).set_params(method="shot")
    with pytest.raises(ValueError, match="`freeze='all'`, which left none in `fit`: f"):
        model.adapt(TARGET)


def test_adapting_needs_classes_that_exclude_each_other():
    model = classifier("none").fit(SOURCE, np.eye(3, dtype=int)[Y])
    with pytest.raises(ValueError, match="needs classes that exclude each other"):
        model.set_params(method="shot").adapt(TARGET)


@pytest.mark.parametrize("method", SOURCE_FREE)
def test_adapting_needs_the_network_of_the_fit(method):
    model = classifier(method).fit(SOURCE, Y).set_params(freeze="none")
    message = "^`freeze` must stay as it is in `adapt`, which goes on .*; `fit` again "
    with pytest.raises(ValueError, match=message):
        model.adapt(TARGET)


@pytest.mark.parametrize("rows", [TARGET[:1], TARGET[[0, 0]]], ids=["one", "twins"])
def test_adabn_needs_samples_that_vary(rows):
    model = classifier("adabn").fit(SOURCE, Y)
    message = f"two or more that differ. Got {len(rows)}, of which 1 differ: give more"
    with pytest.raises(ValueError, match=message):
        model.adapt(rows)


def test_net_does_not_hold_the_target_after_shot():
    model = classifier("shot").fit(ROWS, MASKED)
    held = [getattr(c, "activations", None) for _, c in model.net_.callbacks_]
    assert held and not any(activations is not None for activations in held)


@pytest.mark.parametrize("method", ["none", *JOINT])
def test_adapting_needs_a_method_without_source(method):
    model = classifier("none").fit(SOURCE, Y).set_params(method=method)
    message = rf"does without the source: one of \['adabn', 'shot'\]\. Got '{method}'"
    with pytest.raises(ValueError, match=message):
        model.adapt(TARGET)


def test_failed_adaptation_leaves_what_was():
    model = classifier("shot").fit(SOURCE, Y)
    before = outputs(model)
    with pytest.raises(ValueError, match="NaN"):
        model.adapt(np.full_like(TARGET, np.nan))
    np.testing.assert_array_equal(outputs(model), before)
