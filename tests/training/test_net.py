import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.training import Network, SuffixNet, restore_net, train
from sktransfer.training._net import WeightedCrossEntropy

RNG = np.random.RandomState(0)
Y = np.arange(60) % 3
Z = torch.from_numpy(RNG.randn(60, 5) + Y[:, None]).float()


def make_network():
    torch.manual_seed(0)
    suffix = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.2))
    return Network(suffix, nn.Identity(), nn.Linear(8, 3))


def fit(weight=None, network=None, **changes):
    settings = {
        "max_epochs": 3,
        "lr": 0.05,
        "backbone_lr_ratio": 0.5,
        "weight_decay": 0.0,
        "batch_size": 16,
        "device": torch.device("cpu"),
        "seed": 0,
    }
    weight = np.ones(60) if weight is None else weight
    network = make_network() if network is None else network
    return train(network, Z, Y, weight, **{**settings, **changes})


def weights_of(net):
    return torch.cat([p.detach().flatten() for p in net.module_.parameters()])


def test_loss_is_the_weighted_mean():
    scores, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    weight = torch.tensor([1.0, 2.0, 0.0, 1.0])
    losses = -torch.log_softmax(scores, 1)[range(4), y]
    loss = WeightedCrossEntropy()(scores, (y, weight))
    torch.testing.assert_close(loss, (losses * weight).sum() / 4)


def test_train_learns():
    net = fit(max_epochs=20)
    losses = net.history[:, "train_loss"]
    assert len(losses) == 20 and losses[-1] < 0.6 * losses[0]


def test_train_keeps_the_network_that_it_was_given():
    network = make_network()
    before = network.head.weight.clone()
    net = fit(network=network)
    assert net.module_ is network
    assert not torch.equal(network.head.weight, before)


def test_seed_fixes_order_and_dropout():
    assert torch.equal(weights_of(fit()), weights_of(fit()))
    assert not torch.equal(weights_of(fit()), weights_of(fit(seed=1)))


def test_train_leaves_the_global_generators():
    network = make_network()
    torch_state = torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    fit(network=network)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    same = np.random.get_state()[1] == numpy_state  # noqa: NPY002
    assert same.all()


def test_scale_of_the_weights_does_not_matter():
    weight = RNG.randint(1, 4, 60).astype(float)
    torch.testing.assert_close(weights_of(fit(weight)), weights_of(fit(4 * weight)))


def test_ratio_zero_trains_the_head_alone():
    net, start = fit(backbone_lr_ratio=0.0, weight_decay=0.1), make_network()
    assert torch.equal(net.module_.suffix[0].weight, start.suffix[0].weight)
    assert not torch.equal(net.module_.head.weight, start.head.weight)


def test_schedule_is_stepped_each_batch():
    rates = [g["lr"] for g in fit().optimizer_.param_groups]
    assert max(rates) < 1e-12  # the cosine has come to its end
    assert fit(max_epochs=1).history[-1, "train_batch_count"] == 4


def test_verbose_prints_a_line_an_epoch(capsys):
    fit(verbose=1)
    assert "train_loss" in capsys.readouterr().out
    fit()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("restored", [False, True])
def test_net_predicts_probabilities(restored):
    net = fit()
    if restored:
        net = restore_net(net.module_, net.history.to_list())
    with torch.inference_mode():
        expected = torch.softmax(net.module_.eval()(Z), 1).numpy()
    np.testing.assert_allclose(net.predict_proba(Z), expected, rtol=1e-6)


def test_restored_net_has_the_history():
    net = fit()
    restored = restore_net(net.module_, net.history.to_list())
    assert isinstance(restored, SuffixNet) and restored.initialized_
    assert restored.history[:, "train_loss"] == net.history[:, "train_loss"]
    assert restored.module_ is net.module_
