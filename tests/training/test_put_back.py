import pytest
import torch
from torch import nn

from sktransfer.training import put_back_on_error


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_weights_and_statistics_are_put_back(error):
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = {k: v.clone() for k, v in module.state_dict().items()}

    def train():
        module.train()(torch.randn(5, 3))
        nn.init.zeros_(module[0].weight)
        raise error

    with pytest.raises(error), put_back_on_error(module):
        train()
    assert not module.training
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_what_succeeds_stays():
    module = nn.Linear(3, 4)
    with put_back_on_error(module):
        nn.init.zeros_(module.weight)
    assert not module.weight.any()
