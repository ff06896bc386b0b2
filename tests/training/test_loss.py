import pickle

import numpy as np
import pytest
import torch
from scipy.special import expit, huber, log_softmax
from sklearn.metrics import (
    log_loss,
    mean_absolute_error,
    mean_pinball_loss,
    mean_squared_error,
)
from torch import nn

from sktransfer.training import Network
from sktransfer.training._loss import (
    CLASSIFICATION_LOSSES,
    LOSSES,
    RegressionLoss,
    StartingPoint,
    WeightedLoss,
    cross_entropy,
    register_loss,
)

RNG = np.random.RandomState(0)
SCORES = RNG.randn(12, 4)
Y = RNG.randint(0, 4, 12)
LABELS = RNG.randint(0, 2, (12, 4)).astype(float)
TARGETS = RNG.randn(12, 3) * 2
PREDICTED = RNG.randn(12, 3)


def tensor(a):
    return torch.from_numpy(np.asarray(a))


def by_hand(scores, y, smoothing):
    """Compute the cross-entropy of a sample with its target spread out."""
    target = np.full(len(scores), smoothing / len(scores))
    target[y] += 1 - smoothing
    return -(target * log_softmax(scores)).sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_cross_entropy_of_classes(smoothing):
    losses = cross_entropy(tensor(SCORES), tensor(Y), smoothing)
    expected = [by_hand(s, y, smoothing) for s, y in zip(SCORES, Y, strict=True)]
    np.testing.assert_allclose(losses, expected)


def test_cross_entropy_of_classes_is_the_log_loss():
    losses = cross_entropy(tensor(SCORES), tensor(Y))
    proba = np.exp(log_softmax(SCORES, axis=1))
    assert losses.mean().item() == pytest.approx(log_loss(Y, proba, labels=range(4)))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_independent_labels(smoothing):
    losses = cross_entropy(tensor(SCORES), tensor(LABELS), smoothing)
    p = expit(SCORES)
    target = np.where(LABELS == 1, 1 - smoothing / 2, smoothing / 2)
    expected = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean(1)
    np.testing.assert_allclose(losses, expected)


def test_cross_entropy_of_independent_labels_with_extreme_scores_is_finite():
    scores = tensor([[-1e4, 1e4]])
    assert cross_entropy(scores, tensor([[0.0, 1.0]])).item() == 0.0
    assert cross_entropy(scores, tensor([[1.0, 0.0]])).item() == 1e4


def regression(kind, **settings):
    losses = RegressionLoss(kind, **settings)(tensor(PREDICTED), tensor(TARGETS))
    assert losses.shape == (12,)
    return losses.numpy()


def test_squared_error_is_half_of_that_of_sklearn():
    expected = mean_squared_error(TARGETS.T, PREDICTED.T, multioutput="raw_values")
    np.testing.assert_allclose(regression("squared_error"), expected / 2)


def test_absolute_error_is_that_of_sklearn():
    expected = mean_absolute_error(TARGETS.T, PREDICTED.T, multioutput="raw_values")
    np.testing.assert_allclose(regression("absolute_error"), expected)


@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.9])
def test_quantile_is_the_pinball_loss_of_sklearn(quantile):
    expected = mean_pinball_loss(
        TARGETS.T, PREDICTED.T, alpha=quantile, multioutput="raw_values"
    )
    np.testing.assert_allclose(regression("quantile", quantile=quantile), expected)


def test_quantile_is_the_minimum_of_its_loss():
    y = torch.linspace(0, 1, 1001)[:, None]
    loss = RegressionLoss("quantile", 0.8)
    candidates = torch.linspace(0, 1, 101)
    totals = [loss(torch.full_like(y, c), y).mean() for c in candidates]
    assert candidates[int(torch.stack(totals).argmin())].item() == pytest.approx(0.8)


def test_huber_is_squared_up_to_one_and_absolute_beyond():
    residual = np.abs(TARGETS - PREDICTED)
    assert 5 < np.sum(residual < 1) < 31
    expected = np.where(residual <= 1, residual**2 / 2, residual - 0.5)
    np.testing.assert_allclose(regression("huber"), expected.mean(1))
    np.testing.assert_allclose(expected, huber(1.0, residual))


@pytest.mark.parametrize("kind", LOSSES)
def test_no_error_is_no_loss(kind):
    y = tensor(TARGETS)
    assert not RegressionLoss(kind)(y, y).any()


@pytest.mark.parametrize("kind", LOSSES)
def test_several_targets_count_as_their_mean(kind):
    loss = RegressionLoss(kind, 0.3)
    single = [
        loss(tensor(PREDICTED[:, [k]]), tensor(TARGETS[:, [k]])).numpy()
        for k in range(3)
    ]
    np.testing.assert_allclose(regression(kind, quantile=0.3), np.mean(single, axis=0))


WEIGHT = np.array([1, 2, 0, 0.5, 1, 3, 1, 1, 0.25, 1, 1, 1])


def test_weighted_loss_is_the_sum_over_the_number_of_samples():
    loss = WeightedLoss(cross_entropy)(tensor(SCORES), (tensor(Y), tensor(WEIGHT)))
    losses = [by_hand(s, y, 0.0) for s, y in zip(SCORES, Y, strict=True)]
    assert loss.shape == () and loss.item() == pytest.approx(WEIGHT @ losses / 12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_samples_count_for_both_targets_with_the_weights_of_both(smoothing):
    partner = RNG.permutation(12)
    share = RNG.uniform(size=12)
    total = 0.0
    for i, j in enumerate(partner):
        own = WEIGHT[i] * by_hand(SCORES[i], Y[i], smoothing)
        others = WEIGHT[j] * by_hand(SCORES[i], Y[j], smoothing)
        total += share[i] * own + (1 - share[i]) * others

    def per_sample(scores, y):
        return cross_entropy(scores, y, smoothing)

    loss = WeightedLoss(per_sample)(
        tensor(SCORES), (tensor(Y), tensor(WEIGHT)), tensor(partner), tensor(share)
    )
    assert loss.item() == pytest.approx(total / 12)


def test_mixed_samples_of_a_regression():
    partner = np.roll(np.arange(12), 1)
    share = np.full(12, 0.3)
    loss = WeightedLoss(RegressionLoss("squared_error"))(
        tensor(PREDICTED),
        (tensor(TARGETS), tensor(WEIGHT)),
        tensor(partner),
        tensor(share),
    )
    own = ((PREDICTED - TARGETS) ** 2).mean(1) / 2
    others = ((PREDICTED - TARGETS[partner]) ** 2).mean(1) / 2
    expected = 0.3 * WEIGHT @ own + 0.7 * WEIGHT[partner] @ others
    assert loss.item() == pytest.approx(expected / 12)


def test_gradients_flow_to_the_scores_alone():
    scores = tensor(SCORES).requires_grad_()
    WeightedLoss(cross_entropy)(scores, (tensor(Y), tensor(WEIGHT))).backward()
    proba = np.exp(log_softmax(SCORES, axis=1))
    expected = WEIGHT[:, None] * (proba - np.eye(4)[Y]) / 12
    np.testing.assert_allclose(scores.grad, expected)


@pytest.fixture
def network():
    torch.manual_seed(0)
    suffix = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))
    suffix[2].requires_grad_(False)
    return Network(suffix, nn.Flatten(), nn.Linear(2, 2)).double()


def move(network):
    """Move each parameter by a random step and return the steps by name."""
    steps = {}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            steps[name] = torch.randn_like(parameter)
            parameter += steps[name]
    return steps


PENALISED = ["suffix.0.weight", "suffix.0.bias", "suffix.1.weight", "suffix.1.bias"]


def test_penalty_is_half_the_squared_distance(network):
    start = StartingPoint(network.named_parameters())
    assert start.penalty().item() == 0.0
    steps = move(network)
    distances = [np.square(steps[name].numpy()).sum() for name in PENALISED]
    penalty = start.penalty()
    assert penalty.shape == () and penalty.item() == pytest.approx(sum(distances) / 2)


def test_gradient_of_the_penalty_is_the_distance_from_the_start(network):
    start = StartingPoint(network.named_parameters())
    start.penalty().backward()
    assert not network.suffix[0].weight.grad.any()
    steps = move(network)
    network.zero_grad()
    start.penalty().backward()
    for name, parameter in network.named_parameters():
        if name in PENALISED:
            torch.testing.assert_close(parameter.grad, steps[name])
        else:
            assert parameter.grad is None, name


def test_nothing_to_penalise_is_zero():
    network = Network(nn.Identity(), nn.Identity(), nn.Linear(2, 2))
    penalty = StartingPoint(network.named_parameters()).penalty()
    assert penalty.shape == () and penalty.item() == 0.0


def test_starting_point_pickles_with_its_network(network):
    start = StartingPoint(network.named_parameters())
    network, start = pickle.loads(pickle.dumps((network, start)))
    steps = move(network)
    distances = [np.square(steps[name].numpy()).sum() for name in PENALISED]
    assert start.penalty().item() == pytest.approx(sum(distances) / 2)


@pytest.fixture
def empty_losses(monkeypatch):
    for losses in (LOSSES, CLASSIFICATION_LOSSES):
        for name in [*losses]:
            monkeypatch.delitem(losses, name)


def test_registered_loss_is_found_by_its_name(empty_losses):
    def sixth_power(scores, y):
        return ((scores - y) ** 6).mean(1)

    register_loss("sixth_power", sixth_power)
    register_loss("other", cross_entropy, task="classification")
    assert [*LOSSES] == ["sixth_power"] and [*CLASSIFICATION_LOSSES] == ["other"]
    expected = ((PREDICTED - TARGETS) ** 6).mean(1)
    np.testing.assert_allclose(regression("sixth_power"), expected)
    np.testing.assert_allclose(regression(sixth_power), expected)
    with pytest.raises(ValueError, match="^`name` must be a new .* Got 'other' again"):
        register_loss("other", cross_entropy, task="classification")
    text = r"^`task` must be one of \['classification', 'regression'\]. Got 'ranking'.$"
    with pytest.raises(ValueError, match=text):
        register_loss("third", cross_entropy, task="ranking")


@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (lambda scores, y: ((scores - y) ** 2).mean(), r"shape \(\)"),
        (nn.MSELoss(reduction="none"), r"shape \(12, 3\)"),
        (lambda scores, y: 0.5, "float"),
    ],
    ids=["mean", "outputs", "number"],
)
def test_loss_that_is_not_one_per_sample_is_refused(loss, got):
    text = (
        r"^`loss` must return one loss per sample, a tensor of shape \(12,\) for this "
        f"batch. Got {got}; losses of torch take reduction='none', and several outputs "
        "need a mean over axis 1.$"
    )
    with pytest.raises(ValueError, match=text):
        WeightedLoss(loss)(tensor(PREDICTED), (tensor(TARGETS), tensor(WEIGHT)))
