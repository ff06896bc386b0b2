import copy

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from sktransfer.training import BestWeights, Data, Network, Recipe, cross_entropy, train

RNG = np.random.RandomState(0)
Y = torch.arange(60) % 3
Z = torch.from_numpy(RNG.randn(60, 5) + Y.numpy()[:, None]).float()
HELD = Data(Z[::3] + 0.5, Y[::3], np.ones(20))


class Scripted:
    """A net of one weight whose validation losses are given."""

    def __init__(self, losses):
        self.module_ = nn.BatchNorm1d(1)
        self.module_.bias.requires_grad_(False)
        self.losses = losses
        self.recorded = []

    @property
    def history(self):
        return self

    def __getitem__(self, key):
        assert key == (-1, "valid_loss")
        return self.losses[len(self.recorded)]

    def record(self, name, value):
        assert name == "valid_loss_best"
        self.recorded.append(value)

    def averaged(self):
        return torch.no_grad()


def run(losses, patience):
    """Run epochs that each set weight and statistics to the epoch's number."""
    net, best = Scripted(losses), BestWeights(patience).initialize()
    for epoch in range(1, len(losses) + 1):
        if best.is_out_of_patience:
            break
        with torch.no_grad():
            net.module_.weight.fill_(epoch)
            net.module_.bias.fill_(epoch)  # frozen: nobody moves it in truth
            net.module_.running_mean.fill_(epoch)
        best.on_epoch_end(net)
    best.on_train_end(net)
    return net


@pytest.mark.parametrize(
    ("losses", "patience", "kept", "n_epochs"),
    [
        ([3, 2, 1], 1, 3, 3),
        ([3, 2, 2.5, 1], 1, 2, 3),
        ([3, 2, 2.5, 1], 2, 4, 4),
        ([3, 2, 2, 2, 1], 2, 2, 4),  # as low is no lower
        ([1, 2, 2, 2, 2], 3, 1, 4),
        ([1, 2, 0.5, 2, 2, 2], 2, 3, 5),
        ([1, float("nan"), 0.5], 2, 3, 3),
        ([1, float("nan"), float("nan"), 0.5], 2, 1, 3),
        ([float("nan"), float("nan"), 0.5], 2, 2, 2),  # none was best
    ],
)
def test_best_epoch_is_restored_and_patience_ends(losses, patience, kept, n_epochs):
    net = run(losses, patience)
    assert len(net.recorded) == n_epochs
    assert net.module_.weight.item() == kept
    assert net.module_.running_mean.item() == kept


def test_epochs_are_marked_where_the_loss_fell():
    assert run([3, 2, 2, 1, 5], 9).recorded == [True, True, False, True, False]


def test_frozen_parameters_are_not_kept():
    net = run([1, 2, 3], 9)
    assert net.module_.weight.item() == 1
    assert net.module_.bias.item() == 3


def test_initialize_forgets():
    best, net = BestWeights(1), Scripted([1, 2])
    best.initialize()
    best.on_epoch_end(net)
    best.on_epoch_end(net)
    assert best.is_out_of_patience
    assert best.initialize() is best
    assert not best.is_out_of_patience and best.weights_ is None
    before = copy.deepcopy(net.module_.state_dict())
    best.on_train_end(net)  # there is nothing to restore
    assert all(torch.equal(v, before[k]) for k, v in net.module_.state_dict().items())


def test_state_goes_on():
    first, net = BestWeights(2).initialize(), Scripted([1, 2, 3])
    first.on_epoch_end(net)
    first.on_epoch_end(net)
    second = BestWeights(2).initialize()
    second.load_state_dict(first.state_dict())
    assert not second.is_out_of_patience
    second.on_epoch_end(net)
    assert second.is_out_of_patience and net.recorded == [True, False, False]
    assert (second.loss_, second.weights_["weight"].item()) == (1, 1.0)


class Snapshots(Callback):
    """Keeps what validation saw at the end of each epoch."""

    seen = None

    def on_train_begin(self, net, **kwargs):
        self.seen = []

    def on_epoch_end(self, net, **kwargs):
        with net.averaged():
            self.seen.append(copy.deepcopy(net.module_.state_dict()))


def fit(**changes):
    torch.manual_seed(0)
    layers = [nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3)]
    network = Network(nn.Sequential(*layers), nn.Identity(), nn.Linear(8, 3))
    network.suffix[0].bias.requires_grad_(False)
    settings = {"max_epochs": 40, "lr": 0.05, "batch_size": 16, "n_iter_no_change": 3}
    return train(
        network,
        Data(Z, Y, np.ones(60)),
        loss=cross_entropy,
        recipe=Recipe(**{**settings, "early_stopping": True, **changes}),
        device=torch.device("cpu"),
        seed=3,
        validation=HELD,
        callbacks=[("snapshots", Snapshots())],
    )


@pytest.mark.parametrize("ema", [None, 0.8])
def test_training_ends_with_the_weights_of_the_lowest_validation_loss(ema):
    net = fit(ema=ema)
    losses = net.history[:, "valid_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 4 < 40
    assert np.flatnonzero(net.history[:, "valid_loss_best"])[-1] == best
    kept = dict(net.callbacks_)["snapshots"].seen
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, kept[best][name]), name
    with torch.no_grad():
        loss = cross_entropy(net.module_.eval()(HELD.activations), HELD.y).mean()
    assert loss.item() == pytest.approx(min(losses), rel=1e-5)


def test_training_without_early_stopping_ends_with_the_last_weights():
    net = fit(early_stopping=False, max_epochs=15)
    last = dict(net.callbacks_)["snapshots"].seen[-1]
    assert len(net.history) == 15
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, last[name]), name
