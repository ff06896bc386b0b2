import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy
from torch.autograd import gradcheck

from sktransfer.adaptation import MCC, PseudoLabels
from sktransfer.adaptation._adversarial import adversarial_ramp
from sktransfer.adaptation._self_training import (
    class_confusion_loss,
    entropy,
    pseudo_label_loss,
)
from sktransfer.training import DomainBatch

GENERATOR = torch.Generator().manual_seed(0)
SCORES = 2 * torch.randn(9, 3, generator=GENERATOR, dtype=torch.float64)
CERTAIN = 100 * torch.eye(3, dtype=torch.float64).repeat(2, 1)


def confusion_of(scores, temperature):
    """Compute the confusion of classes with numpy, pair by pair."""
    p = softmax(scores / temperature, axis=1)
    w = 1 + np.exp(-scipy_entropy(p, axis=1))
    w = w * len(p) / w.sum()
    matrix = np.array([[(w * a * b).sum() for b in p.T] for a in p.T])
    matrix /= matrix.sum(1, keepdims=True)
    return (matrix.sum() - np.trace(matrix)) / len(matrix)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_class_confusion_equals_the_formula(temperature):
    found = class_confusion_loss(SCORES, temperature)
    assert found.item() == pytest.approx(confusion_of(SCORES.numpy(), temperature))


def test_certain_classes_are_not_confused():
    assert class_confusion_loss(CERTAIN).item() == pytest.approx(0, abs=1e-12)


def test_class_confusion_is_invariant_to_order():
    expected = class_confusion_loss(SCORES)
    torch.testing.assert_close(class_confusion_loss(SCORES.flip(0).flip(1)), expected)


def test_class_confusion_of_a_class_that_is_never_predicted_is_finite():
    scores = torch.tensor([[0.0, -1e4], [0.0, -1e4]], requires_grad=True)
    loss = class_confusion_loss(scores)
    loss.backward()
    assert loss.isfinite() and scores.grad.isfinite().all()


def test_gradients_are_those_of_finite_differences(monkeypatch):
    scores = SCORES.clone().requires_grad_()
    assert gradcheck(lambda s: pseudo_label_loss(s, 0.5), scores)
    # The weights have no gradient; without them all is smooth.
    module = "sktransfer.adaptation._self_training.entropy"
    monkeypatch.setattr(module, lambda scores: torch.ones_like(scores[:, 0]))
    assert gradcheck(class_confusion_loss, scores)


@pytest.mark.parametrize("confidence", [0.0, 0.6, 1.0])
def test_pseudo_labels_are_of_certain_predictions_alone(confidence):
    best = softmax(SCORES.numpy(), axis=1).max(1)
    expected = -np.log(best[best >= confidence]).sum() / 9
    assert pseudo_label_loss(SCORES, confidence).item() == pytest.approx(expected)


def test_entropy_equals_scipy():
    expected = scipy_entropy(softmax(SCORES.numpy(), axis=1), axis=1)
    np.testing.assert_allclose(entropy(SCORES), expected)
    assert gradcheck(entropy, SCORES.clone().requires_grad_())


def test_entropy_of_certain_predictions_is_zero():
    assert entropy(torch.tensor([[1e4, 0.0, -1e4]])).item() == 0


def value(method, progress=0.5):
    objective = method.make_objective(5, 3, False, 0)
    return objective(None, DomainBatch(None, SCORES), progress)


def test_objectives_are_the_losses():
    found = value(MCC(temperature=1.5))
    torch.testing.assert_close(found, class_confusion_loss(SCORES, 1.5))
    for progress in (0.0, 0.3, 1.0):
        expected = adversarial_ramp(progress) * pseudo_label_loss(SCORES, 0.4)
        found = value(PseudoLabels(confidence=0.4), progress)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("confidence", [-0.1, 2])
def test_confidence_out_of_range(confidence):
    with pytest.raises(ValueError, match=r"`confidence` must be in \[0, 1\]\. Got"):
        value(PseudoLabels(confidence=confidence))
