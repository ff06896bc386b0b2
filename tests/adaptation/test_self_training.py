import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy
from torch.autograd import gradcheck

from sktransfer.adaptation import (
    centroid_labels,
    class_confusion_loss,
    information_loss,
    pseudo_label_loss,
)

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
def test_class_confusion_is_that_of_the_formula(temperature):
    found = class_confusion_loss(SCORES, temperature)
    assert found.item() == pytest.approx(confusion_of(SCORES.numpy(), temperature))


def test_certain_classes_are_not_confused():
    assert class_confusion_loss(CERTAIN).item() == pytest.approx(0, abs=1e-12)


def test_class_confusion_does_not_see_order():
    expected = class_confusion_loss(SCORES)
    torch.testing.assert_close(class_confusion_loss(SCORES.flip(0).flip(1)), expected)


def test_class_confusion_of_a_class_that_is_never_predicted_is_finite():
    scores = torch.tensor([[0.0, -1e4], [0.0, -1e4]], requires_grad=True)
    loss = class_confusion_loss(scores)
    loss.backward()
    assert loss.isfinite() and scores.grad.isfinite().all()


def test_gradients_are_those_of_finite_differences(monkeypatch):
    scores = SCORES.clone().requires_grad_()
    assert gradcheck(information_loss, scores)
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


def test_information_loss_is_that_of_the_formula():
    p = softmax(SCORES.numpy(), axis=1)
    expected = scipy_entropy(p, axis=1).mean() - scipy_entropy(p.mean(0))
    assert information_loss(SCORES).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [(CERTAIN, -math.log(3)), (CERTAIN[:1], 0.0), (torch.zeros(4, 3), 0.0)],
    ids=["certain and diverse", "certain of one class", "knows nothing"],
)
def test_information_loss_has_known_values(scores, expected):
    assert information_loss(scores).item() == pytest.approx(expected, abs=1e-6)


def test_centroids_correct_a_biased_prediction():
    truth = torch.arange(60) % 3
    directions = torch.tensor([[4.0, 0], [0, 4], [-4, -4]])
    features = directions[truth] + 0.3 * torch.randn(60, 2, generator=GENERATOR)
    scores = features @ directions.T / 8 + torch.tensor([2.5, 0, 0])
    assert (scores.argmax(1) == truth).double().mean() < 0.9
    assert torch.equal(centroid_labels(features, scores), truth)


def test_centroids_are_those_of_numpy():
    features = torch.randn(9, 4, generator=GENERATOR, dtype=torch.float64)
    x = np.c_[features, np.ones(9)]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    shares = softmax(SCORES.numpy(), axis=1)
    for _ in range(2):
        centroids = shares.T @ x
        norms = np.linalg.norm(centroids, axis=1)
        labels = (x @ centroids.T / np.where(norms, norms, 1)).argmax(1)
        shares = np.eye(3)[labels]
    assert centroid_labels(features, SCORES).tolist() == labels.tolist()


def test_classes_that_lose_all_samples_take_none():
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    scores = torch.tensor([[9.0, 0, -50], [9.0, 0, -50], [0.0, 9, -50]])
    assert centroid_labels(features, scores, n_rounds=3).tolist() == [0, 0, 1]
