import pickle
from contextlib import ExitStack
from functools import partial
from threading import Thread
from unittest.mock import patch

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

from sktransfer.compute import seeded
from sktransfer.training import Data, Network, Objective, train
from sktransfer.training._loss import (
    LOSSES,
    StartingPoint,
    WeightedLoss,
    cross_entropy,
    find_loss,
    list_losses,
    pinball_loss,
    register_loss,
)
from tests._recipes import resolved_recipe

RNG = np.random.RandomState(0)
SCORES = RNG.randn(12, 4)
Y = RNG.randint(0, 4, 12)
LABELS = RNG.randint(0, 2, (12, 4)).astype(float)
TARGETS = RNG.randn(12, 3) * 2
PREDICTED = RNG.randn(12, 3)


def tensor(a):
    return torch.from_numpy(np.asarray(a))


def by_hand(scores, y, smoothing):
    """Compute the cross-entropy of a sample with label smoothing."""
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
def test_cross_entropy_of_multilabel_targets(smoothing):
    losses = cross_entropy(tensor(SCORES), tensor(LABELS), smoothing)
    p = expit(SCORES)
    target = np.where(LABELS == 1, 1 - smoothing / 2, smoothing / 2)
    expected = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean(1)
    np.testing.assert_allclose(losses, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_of_labels_multiply_the_losses_of_zeros_and_ones(smoothing):
    weight = RNG.uniform(0.5, 2, size=(2, LABELS.shape[1]))
    losses = cross_entropy(tensor(SCORES), tensor(LABELS), smoothing, weight)
    p = expit(SCORES)
    target = np.where(LABELS == 1, 1 - smoothing / 2, smoothing / 2)
    expected = -(target * np.log(p) + (1 - target) * np.log(1 - p))
    for i, k in np.ndindex(LABELS.shape):
        expected[i, k] *= weight[int(LABELS[i, k]), k]
    np.testing.assert_allclose(losses, expected.mean(1))


def test_cross_entropy_of_multilabel_targets_with_extreme_scores_is_finite():
    scores = tensor([[-1e4, 1e4]])
    assert cross_entropy(scores, tensor([[0.0, 1.0]])).item() == 0.0
    assert cross_entropy(scores, tensor([[1.0, 0.0]])).item() == 1e4


def regression(loss, **settings):
    function = partial(find_loss(loss, "regression"), **settings)
    losses = function(tensor(PREDICTED), tensor(TARGETS))
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
    loss = partial(pinball_loss, quantile=0.8)
    candidates = torch.linspace(0, 1, 101)
    totals = [loss(torch.full_like(y, c), y).mean() for c in candidates]
    assert candidates[int(torch.stack(totals).argmin())].item() == pytest.approx(0.8)


def test_huber_is_squared_up_to_one_and_absolute_beyond():
    residual = np.abs(TARGETS - PREDICTED)
    assert 5 < np.sum(residual < 1) < 31
    expected = np.where(residual <= 1, residual**2 / 2, residual - 0.5)
    np.testing.assert_allclose(regression("huber"), expected.mean(1))
    np.testing.assert_allclose(expected, huber(1.0, residual))


@pytest.mark.parametrize("kind", LOSSES["regression"])
def test_loss_of_exact_predictions_is_zero(kind):
    y = tensor(TARGETS)
    assert not LOSSES["regression"][kind](y, y).any()


@pytest.mark.parametrize("kind", LOSSES["regression"])
def test_several_targets_count_as_their_mean(kind):
    loss = LOSSES["regression"][kind]
    single = [
        loss(tensor(PREDICTED[:, [k]]), tensor(TARGETS[:, [k]])).numpy()
        for k in range(3)
    ]
    np.testing.assert_allclose(regression(kind), np.mean(single, axis=0))


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
    loss = WeightedLoss(LOSSES["regression"]["squared_error"])(
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
def own_losses():
    with ExitStack() as stack:
        for losses in LOSSES.values():
            stack.enter_context(patch.dict(losses))
        yield


def test_registered_loss_is_found_by_its_name(own_losses):
    def sixth_power(scores, y):
        return ((scores - y) ** 6).mean(1)

    register_loss("sixth_power", sixth_power, task="regression")
    register_loss("other", cross_entropy, task="classification")
    assert list_losses("regression")[-1] == "sixth_power"
    assert list_losses("classification") == ["cross_entropy", "other"]
    expected = ((PREDICTED - TARGETS) ** 6).mean(1)
    np.testing.assert_allclose(regression("sixth_power"), expected)
    np.testing.assert_allclose(regression(sixth_power), expected)
    register_loss("other", sixth_power, task="classification")
    assert find_loss("other", "classification") is sixth_power


def test_losses_that_cannot_be_registered(own_losses):
    text = "those of the built-in losses for regression, .* Got 'huber'"
    with pytest.raises(ValueError, match=text):
        register_loss("huber", cross_entropy, task="regression")
    text = r"^`task` must be one of \['classification', 'regression'\]. Got 'ranking'.$"
    with pytest.raises(ValueError, match=text):
        register_loss("third", cross_entropy, task="ranking")
    with pytest.raises(ValueError, match=text):
        list_losses("ranking")
    with pytest.raises(TypeError, match=r"must be a callable, function\(scores, y\)"):
        register_loss("third", "huber", task="regression")


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
        "^`loss` must return a tensor with the loss of each sample, of shape "
        rf"\(12,\). Got {got}; reduce over the outputs, not over the samples: losses "
        "of torch take reduction='none', and several outputs need a mean over axis 1.$"
    )
    with pytest.raises(ValueError, match=text):
        WeightedLoss(loss)(tensor(PREDICTED), (tensor(TARGETS), tensor(WEIGHT)))


GENERATOR = torch.Generator().manual_seed(0)
BATCH = torch.randn(24, 5, generator=GENERATOR)
OTHERS = torch.randn(7, 5, generator=GENERATOR) + 2
CLASSES = torch.arange(24) % 3


def make_network():
    torch.manual_seed(0)
    suffix = nn.Sequential(nn.Linear(5, 4), nn.Tanh())
    return Network(suffix, nn.Identity(), nn.Linear(4, 3))


def distance(source, target, progress):
    return (source.features.mean(0) - target.features.mean(0)).square().sum()


def fit(objective=None, network=None, **settings):
    recipe = {"max_epochs": 4, "lr": 0.05, "batch_size": 8, **settings}
    return train(
        make_network() if network is None else network,
        Data(BATCH, CLASSES, torch.ones(24).numpy()),
        loss=cross_entropy,
        recipe=resolved_recipe(**recipe),
        device=torch.device("cpu"),
        seed=0,
        objective=objective,
    )


def weights_of(net):
    return torch.cat([p.detach().flatten() for p in net.module_.parameters()])


def test_draw_takes_each_other_before_one_comes_again():
    objective = Objective(distance, OTHERS, seed=3)
    rows = objective.draw(15, 0)
    counts = [(rows == other).all(1).sum().item() for other in OTHERS]
    assert rows.shape == (15, 5) and sorted(counts) == [2] * 6 + [3]


def test_draw_depends_on_seed_and_number():
    first = Objective(distance, OTHERS, seed=3)
    assert torch.equal(first.draw(5, 1), Objective(distance, OTHERS, seed=3).draw(5, 1))
    assert not torch.equal(first.draw(5, 1), first.draw(5, 2))


def test_draw_without_others_is_nothing():
    assert Objective(distance).draw(5, 0) is None


def test_forward_sees_both_and_weighs():
    network, seen = make_network(), []

    def function(source, target, progress):
        seen.append((source, target, progress))
        return distance(source, target, progress)

    scores, added = Objective(function, OTHERS, weight=3.0)(
        network, BATCH, OTHERS, 0.25
    )
    ((source, target, progress),) = seen
    torch.testing.assert_close(scores, network(BATCH))
    torch.testing.assert_close(source.features, network.describe(BATCH))
    torch.testing.assert_close(target.features, network.describe(OTHERS))
    torch.testing.assert_close(target.scores, network(OTHERS))
    assert progress == 0.25
    torch.testing.assert_close(added, 3 * distance(source, target, 0))


def test_forward_without_others_sees_its_own():
    def function(source, target, progress):
        assert target is None
        return source.scores.mean()

    network = make_network()
    scores, added = Objective(function)(network, BATCH, None, 0.0)
    torch.testing.assert_close(added, scores.mean())


def test_training_minimises_the_objective():
    net = fit(Objective(distance, OTHERS, weight=5.0), backbone_lr_ratio=0.5)
    assert net.history[-1, "objective"] < 0.5 * net.history[0, "objective"]


def test_training_with_a_weight_of_zero_is_that_without():
    found = weights_of(fit(Objective(distance, OTHERS, weight=0.0)))
    torch.testing.assert_close(found, weights_of(fit()))


def test_loss_in_the_history_is_without_the_objective():
    def constant(source, target, progress):
        return source.scores.sum() * 0 + 7

    net = fit(Objective(constant, OTHERS, weight=2.0), max_epochs=1)
    assert net.history[0, "objective"] == pytest.approx(14)
    loss = fit(max_epochs=1).history[0, "train_loss"]
    assert net.history[0, "train_loss"] == pytest.approx(loss)


def test_progress_goes_from_zero_to_one():
    seen = []

    def function(source, target, progress):
        seen.append(progress)
        return source.scores.sum() * 0

    fit(Objective(function, OTHERS), max_epochs=2)
    assert seen == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])


def test_progress_of_a_part_is_that_of_the_whole():
    seen = []

    def function(source, target, progress):
        seen.append(progress)
        return source.scores.sum() * 0

    fit(Objective(function, OTHERS, span=(0.4, 1.0)), max_epochs=1)
    assert seen == pytest.approx([0.4, 0.6, 0.8])


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, source, target, progress):
        return (self.weight - 3) ** 2


def test_parameters_of_the_function_learn_five_times_as_fast_as_the_head():
    gate = Gate()
    net = fit(Objective(gate, OTHERS), backbone_lr_ratio=0.2)
    assert gate.weight.item() > 1.1
    (group,) = [
        g
        for g in net.optimizer_.param_groups
        if any(p is gate.weight for p in g["params"])
    ]
    assert group["initial_lr"] == pytest.approx(5 * 0.05)


def test_batch_in_parts_takes_the_others_in_parts(monkeypatch):
    sizes = []

    def function(source, target, progress):
        sizes.append((len(source.scores), len(target.scores)))
        if len(source.scores) > 4:
            raise torch.OutOfMemoryError
        return distance(source, target, progress)

    with pytest.warns(UserWarning, match="going on with 4"):
        fit(Objective(function, OTHERS), max_epochs=1)
    assert sizes == [(8, 8)] + 6 * [(4, 4)]


def test_net_does_not_hold_the_others_afterwards():
    net = fit(Objective(distance, OTHERS))
    assert net.criterion_.objective.others is None


def test_others_are_drawn_before_the_generators_are_taken():
    """Views are drawn in other threads, which wait while this one draws."""

    class Views:
        def __len__(self):
            return len(OTHERS)

        def __getitem__(self, indices):
            thread = Thread(target=draw, daemon=True)
            thread.start()
            thread.join(10)
            assert not thread.is_alive()
            return OTHERS[indices]

    def draw():
        with seeded(0):
            pass

    net = fit(Objective(distance, Views()), max_epochs=1)
    assert len(net.history) == 1


def test_class_of_losses_is_no_loss():
    with pytest.raises(ValueError, match=r"Got the class CrossEntropyLoss; losses"):
        find_loss(nn.CrossEntropyLoss, "classification")
