import pytest
import torch
from torch import nn

from sktransfer.training._divide import is_divisible
from sktransfer.training._network import Network

Z = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(0))
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
    assert is_divisible(made, Z, MANY) is divisible
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_little_to_compute_is_not_divided():
    assert not is_divisible(network(), Z, 10**6)
