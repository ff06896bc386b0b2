import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.training import Network, Probabilities, SuffixNet, restore_net

Z = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
HISTORY = [{"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": 0.25}]


@pytest.fixture
def network():
    torch.manual_seed(0)
    suffix = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5))
    return Network(suffix, nn.Identity(), nn.Linear(8, 3))


def test_restored_net_has_the_network_and_the_history(network):
    net = restore_net(network, HISTORY)
    assert isinstance(net, SuffixNet) and net.initialized_
    assert net.module_ is network
    assert net.history[:, "train_loss"] == [0.5, 0.25]
    assert net.history[:, "epoch"] == [1, 2]
    grouped = [p for group in net.optimizer_.param_groups for p in group["params"]]
    assert {*map(id, grouped)} == {*map(id, network.parameters())}


def test_restored_net_predicts_probabilities_and_labels(network):
    net = restore_net(network, nonlinearity=Probabilities())
    with torch.inference_mode():
        expected = torch.softmax(network.eval()(Z), 1).numpy()
    np.testing.assert_allclose(net.predict_proba(Z), expected, rtol=1e-6)
    np.testing.assert_array_equal(net.predict(Z), expected.argmax(1))
