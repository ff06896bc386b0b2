import pytest
import torch
from torch import nn

from sktransfer.compute import Shards
from sktransfer.training._gradients import (
    add_gradients,
    is_divisible,
    mixes_samples,
)
from sktransfer.training._loss import WeightedLoss, cross_entropy
from sktransfer.training._network import Network

GENERATOR = torch.Generator().manual_seed(0)
Z = torch.randn(7, 5, generator=GENERATOR, dtype=torch.float64)
TARGET = torch.arange(7) % 3, torch.rand(7, generator=GENERATOR, dtype=torch.float64)
MIXING = torch.arange(7).roll(1), torch.full((7,), 0.3, dtype=torch.float64)


def gradients(size, **settings):
    network = nn.Linear(5, 3, dtype=torch.float64)
    nn.init.constant_(network.weight, 0.1)
    nn.init.zeros_(network.bias)
    if "penalty" in settings:
        settings["penalty"] = lambda: network.weight.square().sum()
    criterion, sizes = WeightedLoss(cross_entropy), []

    def scores_of(z):
        sizes.append(len(z))
        return network(z)

    loss, scores = add_gradients(scores_of, criterion, Z, TARGET, size=size, **settings)
    return sizes, loss, scores, network.weight.grad


@pytest.mark.parametrize("size", [1, 3, 6])
@pytest.mark.parametrize(
    "settings", [{}, {"mixing": MIXING}, {"penalty": True, "n_batches": 4}], ids=str
)
def test_parts_add_up_to_the_batch(size, settings):
    sizes, *found = gradients(size, **settings)
    whole, *expected = gradients(7, **settings)
    assert whole == [7] and max(sizes) == size and sum(sizes) == 7
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_batches_share_a_step():
    torch.testing.assert_close(gradients(7, n_batches=4)[3] * 4, gradients(7)[3])


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("settings", [{}, {"penalty": True, "n_batches": 4}], ids=str)
def test_threads_add_up_the_same_gradients(n_threads, settings):
    weight = torch.full((3, 5), 0.1, dtype=torch.float64, requires_grad=True)
    unused = torch.ones(2, requires_grad=True)
    if "penalty" in settings:
        settings = {**settings, "penalty": lambda: weight.square().sum()}
    criterion = WeightedLoss(cross_entropy)
    with Shards([lambda function: function()] * n_threads) as shards:
        for _ in range(2):
            found = add_gradients(
                lambda z: z @ weight.T,
                criterion,
                Z,
                TARGET,
                size=3,
                parameters=[weight, unused],
                shards=shards,
                **settings,
            )
    own = {**settings, "penalty": True} if "penalty" in settings else settings
    _, loss, scores, expected = gradients(7, **own)
    torch.testing.assert_close(found, (loss, scores))
    torch.testing.assert_close(weight.grad, 2 * expected)
    assert unused.grad is None


MAPS = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(0))
MANY = 10**9


class Own(nn.Module):
    def forward(self, z):
        return z.relu()


def network(*layers):
    suffix = nn.Sequential(nn.Conv2d(4, 5, 3), *layers)
    return Network(suffix, nn.Flatten(), nn.Linear(80, 2)).train()


@pytest.mark.parametrize(
    ("layers", "divisible"),
    [
        ([nn.ReLU(), nn.BatchNorm2d(5).eval()], True),
        ([nn.GroupNorm(1, 5), nn.Dropout(0.0)], True),
        ([nn.Dropout(0.5)], False),
        ([nn.BatchNorm2d(5)], False),
        ([nn.BatchNorm2d(5, track_running_stats=False)], False),
        ([Own()], False),
    ],
    ids=["eval", "group", "dropout", "statistics", "batch", "own"],
)
def test_layers_that_see_one_sample_at_a_time_can_be_divided(layers, divisible):
    made = network()
    made.suffix.extend(layers)
    before = {k: v.clone() for k, v in made.state_dict().items()}
    state = torch.get_rng_state()
    assert is_divisible(made, MAPS, MANY) is divisible
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_batch_norm_that_takes_no_single_sample_is_not_divided():
    made = network(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(5))
    made.head = nn.Linear(5, 2)
    assert not is_divisible(made, MAPS, MANY)


def test_little_to_compute_is_not_divided():
    assert not is_divisible(network(), MAPS, 10**6)


def sequence_gradients(**settings):
    """Return the shapes of the parts, the loss, the scores and the gradients."""
    lengths = torch.tensor([2, 9, 1, 3, 8, 2, 3])
    mask = torch.arange(10) < lengths[:, None]
    hidden = torch.randn(7, 10, 5, generator=torch.Generator().manual_seed(1)).double()
    state = {"hidden": hidden.masked_fill(~mask[..., None], 0), "mask": mask}
    network = nn.Linear(5, 3, dtype=torch.float64)
    nn.init.constant_(network.weight, 0.1)
    nn.init.zeros_(network.bias)
    shapes = []

    def scores_of(z):
        shapes.append(tuple(z["mask"].shape))
        return network(z["hidden"].sum(1)) * z["mask"].sum(1, keepdim=True)

    criterion = WeightedLoss(cross_entropy)
    found = add_gradients(scores_of, criterion, state, TARGET, **settings)
    return shapes, *found, network.weight.grad


def test_sequences_of_similar_length_add_up_to_the_batch():
    shapes, *found = sequence_gradients(size=7, most_positions=9)
    whole, *expected = sequence_gradients(size=7)
    assert whole == [(7, 10)]
    assert shapes == [(3, 2), (2, 3), (1, 8), (1, 9)]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_shares_add_up_to_the_batch():
    network = nn.Linear(5, 3, dtype=torch.float64)
    nn.init.constant_(network.weight, 0.1)
    nn.init.zeros_(network.bias)
    criterion, losses = WeightedLoss(cross_entropy), []
    for rows in (slice(0, 4), slice(4, 7)):
        target = tuple(part[rows] for part in TARGET)
        found = add_gradients(network, criterion, Z[rows], target, size=2, n_total=7)
        losses.append(found[0])
    _, loss, _, gradient = gradients(7)
    torch.testing.assert_close(sum(losses), loss)
    torch.testing.assert_close(network.weight.grad, gradient)


class MinusMean(nn.Module):
    def forward(self, z):
        return z - z.mean(0)


@pytest.mark.parametrize(
    ("layer", "mixes"),
    [
        (nn.BatchNorm1d(5), True),
        (nn.BatchNorm1d(5).eval(), False),
        (
            nn.Sequential(nn.Dropout(), nn.BatchNorm1d(5, track_running_stats=False)),
            True,
        ),
        (nn.Dropout(), False),
        (nn.LayerNorm(5), False),
        (MinusMean(), True),
    ],
    ids=str,
)
def test_networks_that_mix_samples(layer, mixes):
    network = Network(layer, nn.Identity(), nn.Linear(5, 3))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert mixes_samples(network, torch.randn(3, 5)) is mixes
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
