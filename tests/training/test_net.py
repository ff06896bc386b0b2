import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.training import Network, Probabilities, SuffixNet, restore_net

HISTORY = [{"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": 0.25}]
VECTORS = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def small():
    torch.manual_seed(0)
    suffix = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5))
    return Network(suffix, nn.Identity(), nn.Linear(8, 3))


def test_restored_net_has_the_network_and_the_history(small):
    net = restore_net(small, HISTORY)
    assert isinstance(net, SuffixNet) and net.initialized_
    assert net.module_ is small
    assert net.history[:, "train_loss"] == [0.5, 0.25]
    assert net.history[:, "epoch"] == [1, 2]
    grouped = [p for group in net.optimizer_.param_groups for p in group["params"]]
    assert {*map(id, grouped)} == {*map(id, small.parameters())}


def test_restored_net_predicts_probabilities_and_labels(small):
    net = restore_net(small, nonlinearity=Probabilities())
    with torch.inference_mode():
        expected = torch.softmax(small.eval()(VECTORS), 1).numpy()
    np.testing.assert_allclose(net.predict_proba(VECTORS), expected, rtol=1e-6)
    np.testing.assert_array_equal(net.predict(VECTORS), expected.argmax(1))
