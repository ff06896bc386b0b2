import copy

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.training import Data, Network, Recipe, cross_entropy, train, try_rates

RNG = np.random.RandomState(0)
Y = torch.arange(60) % 3
Z = torch.from_numpy(RNG.randn(60, 5) + Y.numpy()[:, None]).float()
DATA = Data(Z, Y, RNG.uniform(0.5, 1.5, 60))
CPU = torch.device("cpu")


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = [nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3)]
    made = Network(nn.Sequential(*layers), nn.Identity(), nn.Linear(8, 3))
    made.suffix[0].bias.requires_grad_(False)
    return made


def find(network, data=DATA, seed=0, stages_above=None, **recipe):
    return try_rates(
        network,
        data,
        loss=cross_entropy,
        recipe=Recipe(**{"batch_size": 16, **recipe}),
        device=CPU,
        seed=seed,
        stages_above=stages_above,
    )


def assert_untouched(network, data, error=None):
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    required = {name: t.requires_grad for name, t in tensors.items()}
    torch_state = torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    if error is None:
        find(network, data)
    else:
        with pytest.raises(ValueError, match=error):
            find(network, data)
    after = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    assert after.keys() == tensors.keys()
    for name, tensor in after.items():
        assert tensor is tensors[name], name
        assert torch.equal(tensor, before[name]), name
        assert tensor.requires_grad == required[name], name
        assert tensor.grad is None, name
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_network_and_generators_are_left_as_they_were(network):
    assert_untouched(network, DATA)


def test_network_is_left_as_it_was_by_a_failure(network):
    z = torch.full_like(Z, torch.nan)
    message = "^The loss must be finite at the lowest learning rate, start=1e-07. Got"
    assert_untouched(network, Data(z, Y, np.ones(60)), message)


def test_rate_is_one_that_trains(network):
    curve = find(network)
    assert 1e-4 < curve.suggestion < 1
    assert curve.lr[0] == pytest.approx(1e-7) and np.all(np.diff(curve.lr) > 0)
    assert np.isfinite(curve.loss).all() and len(curve.loss) == len(curve.lr)

    def last_loss(lr):
        net = train(
            copy.deepcopy(network),
            DATA,
            loss=cross_entropy,
            recipe=Recipe(lr=lr, batch_size=16),
            device=CPU,
            seed=0,
        )
        return net.history[-1, "train_loss"]

    found = last_loss(curve.suggestion)
    assert found < 0.8 * last_loss(1e-5) and found < 0.5 * last_loss(10.0)


def test_seed_fixes_the_curve(network):
    first, again, other = (find(network, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.loss, again.loss)
    assert first.suggestion == again.suggestion
    n = min(len(first.loss), len(other.loss))
    assert not np.array_equal(first.loss[:n], other.loss[:n])


def test_rate_of_the_recipe_plays_no_part(network):
    curves = [find(network, lr=lr) for lr in (1e-5, 1.0)]
    assert np.array_equal(curves[0].loss, curves[1].loss)


def test_first_loss_is_that_of_the_first_batch_in_train_mode(network):
    order = torch.randperm(60, generator=torch.Generator().manual_seed(5))[:16]
    weight = torch.from_numpy(DATA.sample_weight / DATA.sample_weight.mean())
    expected_of = copy.deepcopy(network).train()
    state = torch.random.get_rng_state()
    torch.manual_seed(5)  # of dropout
    losses = cross_entropy(expected_of(Z[order]), Y[order])
    torch.random.set_rng_state(state)
    expected = (weight[order] * losses).mean().item()
    assert find(network.eval(), seed=5).loss[0] == pytest.approx(expected, rel=1e-5)


def moved_most(network, **settings):
    """Largest change of each parameter in a step of the test, by hook."""
    moved, last = {}, {}

    def watch(module, args):
        for name, parameter in module.named_parameters():
            if name in last:
                step = (parameter.detach() - last[name]).abs().max().item()
                moved[name] = max(moved.get(name, 0.0), step)
            last[name] = parameter.detach().clone()

    handle = network.register_forward_pre_hook(watch)
    curve = find(network, weight_decay=0.0, **settings)
    handle.remove()
    return moved, curve


def test_suffix_moves_at_its_share_of_the_rate(network):
    moved, _ = moved_most(network, backbone_lr_ratio=0.0)
    assert moved["suffix.0.weight"] == 0.0 and moved["head.weight"] > 0.0
    above = {"suffix.0.weight": 3}
    settings = {"backbone_lr_ratio": 1.0, "stages_above": above}
    moved, _ = moved_most(network, layer_decay=0.01, **settings)
    assert 0 < moved["suffix.0.weight"] < 1e-4 * moved["suffix.1.weight"]
    assert moved["suffix.0.bias"] == 0.0  # frozen


def test_views_are_drawn_anew_in_each_batch(network):
    class Views:
        n_looks = 0

        def __len__(self):
            return len(Z)

        def __getitem__(self, indices):
            self.n_looks += 1
            return Z[indices]

    views = Views()
    curve = find(network, Data(views, Y, DATA.sample_weight))
    assert views.n_looks in (len(curve.lr), len(curve.lr) + 1)
    assert np.array_equal(curve.loss, find(network).loss)
