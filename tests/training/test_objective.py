from threading import Thread

import pytest
import torch
from torch import nn

from sktransfer.compute import seeded
from sktransfer.training import Data, Network, Objective, Recipe, cross_entropy, train

GENERATOR = torch.Generator().manual_seed(0)
Z = torch.randn(24, 5, generator=GENERATOR)
OTHERS = torch.randn(7, 5, generator=GENERATOR) + 2
Y = torch.arange(24) % 3


def make_network():
    torch.manual_seed(0)
    suffix = nn.Sequential(nn.Linear(5, 4), nn.Tanh())
    return Network(suffix, nn.Identity(), nn.Linear(4, 3))


def distance(own, others, progress):
    return (own.features.mean(0) - others.features.mean(0)).square().sum()


def fit(objective=None, network=None, **settings):
    recipe = {"max_epochs": 4, "lr": 0.05, "batch_size": 8, **settings}
    return train(
        make_network() if network is None else network,
        Data(Z, Y, torch.ones(24).numpy()),
        loss=cross_entropy,
        recipe=Recipe(**recipe),
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


def test_draw_goes_by_seed_and_number():
    first = Objective(distance, OTHERS, seed=3)
    assert torch.equal(first.draw(5, 1), Objective(distance, OTHERS, seed=3).draw(5, 1))
    assert not torch.equal(first.draw(5, 1), first.draw(5, 2))


def test_draw_without_others_is_nothing():
    assert Objective(distance).draw(5, 0) is None


def test_forward_sees_both_and_weighs():
    network, seen = make_network(), []

    def function(own, others, progress):
        seen.append((own, others, progress))
        return distance(own, others, progress)

    scores, added = Objective(function, OTHERS, weight=3.0)(network, Z, OTHERS, 0.25)
    ((own, others, progress),) = seen
    torch.testing.assert_close(scores, network(Z))
    torch.testing.assert_close(own.features, network.describe(Z))
    torch.testing.assert_close(others.features, network.describe(OTHERS))
    torch.testing.assert_close(others.scores, network(OTHERS))
    assert progress == 0.25
    torch.testing.assert_close(added, 3 * distance(own, others, 0))


def test_forward_without_others_sees_its_own():
    def function(own, others, progress):
        assert others is None
        return own.scores.mean()

    network = make_network()
    scores, added = Objective(function)(network, Z, None, 0.0)
    torch.testing.assert_close(added, scores.mean())


def test_training_minimises_the_objective():
    net = fit(Objective(distance, OTHERS, weight=5.0))
    assert net.history[-1, "objective"] < 0.5 * net.history[0, "objective"]


def test_training_with_a_weight_of_zero_is_that_without():
    found = weights_of(fit(Objective(distance, OTHERS, weight=0.0)))
    torch.testing.assert_close(found, weights_of(fit()))


def test_loss_in_the_history_is_without_the_objective():
    def constant(own, others, progress):
        return own.scores.sum() * 0 + 7

    net = fit(Objective(constant, OTHERS, weight=2.0), max_epochs=1)
    assert net.history[0, "objective"] == pytest.approx(14)
    loss = fit(max_epochs=1).history[0, "train_loss"]
    assert net.history[0, "train_loss"] == pytest.approx(loss)


def test_progress_goes_from_zero_to_one():
    seen = []

    def function(own, others, progress):
        seen.append(progress)
        return own.scores.sum() * 0

    fit(Objective(function, OTHERS), max_epochs=2)
    assert seen == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])


def test_progress_of_a_part_is_that_of_the_whole():
    seen = []

    def function(own, others, progress):
        seen.append(progress)
        return own.scores.sum() * 0

    fit(Objective(function, OTHERS, span=(0.4, 1.0)), max_epochs=1)
    assert seen == pytest.approx([0.4, 0.6, 0.8])


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, own, others, progress):
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

    def function(own, others, progress):
        sizes.append((len(own.scores), len(others.scores)))
        if len(own.scores) > 4:
            raise torch.OutOfMemoryError
        return distance(own, others, progress)

    with pytest.warns(UserWarning, match="going on with 4"):
        fit(Objective(function, OTHERS), max_epochs=1)
    assert sizes == [(8, 8)] + 6 * [(4, 4)]


def test_net_does_not_hold_the_others_afterwards():
    net = fit(Objective(distance, OTHERS))
    assert net.criterion_.objective.others is None


def test_others_are_drawn_before_the_generators_are_taken():
    """Views are made in other threads, which wait as long as this one draws."""

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
