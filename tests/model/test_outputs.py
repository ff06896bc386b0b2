import numpy as np
import pytest
import torch

from sktransfer.model import ClassOutputs, RegressionOutputs
from sktransfer.model._outputs import Features, outputs_from_dict
from sktransfer.training import LOSSES


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error"])
def test_quality_of_a_regression_is_relative_to_the_best_constant(loss):
    y = torch.tensor([[0.0, 1.0], [0.0, 3.0], [6.0, 5.0]])
    outputs, function = RegressionOutputs(2, False), LOSSES["regression"][loss]
    best = y.mean(dim=0) if loss == "squared_error" else y.median(dim=0).values
    assert outputs.quality(best.expand(3, 2), y, function) == pytest.approx(0, abs=1e-6)
    assert outputs.quality(y, y, function) == 1
    halfway = outputs.quality((y + best) / 2, y, function)
    assert halfway == pytest.approx(0.75 if loss == "squared_error" else 0.5)


def test_classes_are_learned_and_encoded():
    outputs = ClassOutputs.learn(["b", "a", "b"])
    assert outputs.classes.tolist() == ["a", "b"] and outputs.kind == "multiclass"
    assert outputs.encode(["a", "b"]).tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"not among the classes: \['c'\]"):
        outputs.encode(["c"])
    given = ClassOutputs.learn(["a"], classes=["c", "a"])
    assert given.classes.tolist() == ["a", "c"]


def test_single_class_and_no_samples_are_refused():
    outputs, weight = ClassOutputs.learn([0, 1, 1]), np.ones(2)
    assert outputs.fitted_to(np.array([0, 1]), weight, is_partial=False) is outputs
    assert outputs.fitted_to(np.array([1, 1]), weight, is_partial=True) is outputs
    with pytest.raises(ValueError, match="at least two classes .* Got one class: 1"):
        outputs.fitted_to(np.array([1, 1]), weight, is_partial=False)
    with pytest.raises(ValueError, match="All samples have weight zero"):
        outputs.fitted_to(np.array([]), np.array([]), is_partial=True)


def test_multilabel_targets():
    y = np.array([[0, 1, 0], [1, 1, 0]])
    outputs = ClassOutputs.learn(y)
    assert outputs.is_multilabel and outputs.n_outputs == 3
    np.testing.assert_array_equal(outputs.encode(y), y)
    assert outputs.strata(y).tolist() == [0, 0]
    with pytest.raises(ValueError, match="column for each of the 3 labels"):
        outputs.encode(y[:, :2])


def test_units_of_regression_targets():
    y = np.array([[1.0, 5.0], [3.0, 5.0]])
    outputs = RegressionOutputs.learn(y)
    fitted = outputs.fitted_to(outputs.encode(y), np.ones(2), is_partial=False)
    assert fitted.mean.tolist() == [2, 5] and fitted.scale.tolist() == [1, 1]
    assert fitted.to_tensor(y).tolist() == [[-1, 0], [1, 0]]
    np.testing.assert_array_equal(fitted.to_units(np.array([[-1, 0], [1, 0]])), y)
    with pytest.raises(ValueError, match=r"must have 2 target\(s\)"):
        outputs.encode(y[:, 0])


@pytest.mark.parametrize(
    "outputs",
    [
        Features(["a", "b"], [2, 3]),
        ClassOutputs(np.arange(3), is_multilabel=True),
        RegressionOutputs(1, True, np.zeros(1), np.ones(1)),
    ],
)
def test_outputs_are_restored_from_plain_values(outputs):
    again = outputs_from_dict(vars(outputs))
    assert type(again) is type(outputs) and vars(again) == vars(outputs)


@pytest.mark.parametrize("power", [-1000, -600, 0, 600, 1000])
def test_scale_of_targets_of_any_size(power):
    y = np.ldexp(np.array([1.0, 2.0, 4.0, -3.0]), power)
    outputs = RegressionOutputs.learn(y)
    codes = outputs.encode(y)
    with np.errstate(all="raise"):
        fitted = outputs.fitted_to(codes, np.ones(4), is_partial=False)
        standardised = fitted.to_tensor(codes)
    assert standardised.std(correction=0) == pytest.approx(1)
    found = fitted.to_units(standardised.double().numpy())
    np.testing.assert_allclose(found, y, rtol=1e-6)
