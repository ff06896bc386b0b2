import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.training import (
    HeadData,
    Network,
    Probe,
    Solution,
    cross_entropy,
    head_data,
    last_layer,
)


def probe(**changes):
    settings = {
        "solve": None,
        "penalty": lambda C: 1 / C,
        "loss": cross_entropy,
        "kind": "multiclass",
        "is_final": True,
        **changes,
    }
    return Probe(**settings)


def some_data(n=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, 3, generator=generator)
    y = (features[:, 0] > 0).long().numpy()
    return HeadData(features, y, np.ones(n), np.arange(n))


def test_views_share_the_weights_of_their_samples():
    network = Network(nn.Identity(), nn.Identity(), nn.Linear(3, 2))
    views = [torch.ones(4, 3), torch.zeros(4, 3)]
    y, weight = torch.tensor([0, 1, 0, 1]), np.array([1.0, 2.0, 3.0, 4.0])
    data = head_data(network, views, y, weight, batch_size=2)
    torch.testing.assert_close(data.features, torch.cat(views))
    assert data.y.tolist() == [0, 1, 0, 1] * 2
    assert data.weight.tolist() == [0.5, 1.0, 1.5, 2.0] * 2
    assert data.groups.tolist() == [0, 1, 2, 3] * 2
    assert last_layer(network) is network.head


def test_mean_loss_is_weighted():
    data = some_data()._replace(weight=np.arange(20.0))
    network = Network(nn.Identity(), nn.Identity(), nn.Linear(3, 2))
    losses = cross_entropy(network.head(data.features), torch.from_numpy(data.y))
    expected = np.average(losses.detach().numpy(), weights=data.weight)
    assert probe().mean_loss(network, data) == pytest.approx(expected)


def test_parts_are_learned_with_and_without_a_summary_of_those_before():
    first, second = some_data(), some_data(seed=1)
    head = nn.Linear(3, 2)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    online = probe().begin_online(Solution(head, 1.0, {}), first)
    assert [part.shape for part in online] == [(4, 4), (4, 2)]
    for known in (online, None):
        state, n_iter = probe().solve_on(
            head, second, strength=1.0, online=known, n_before=20
        )
        assert n_iter > 0 and len(state) == 2
        right = head(second.features).argmax(1).numpy() == second.y
        assert right.mean() > 0.9


def test_wide_heads_keep_no_summary():
    head = nn.utils.skip_init(nn.Linear, 5000, 2)
    assert probe().begin_online(Solution(head, 1.0, {}), some_data()) is None
