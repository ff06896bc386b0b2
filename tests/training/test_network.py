import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.training import Network, Probabilities, make_head

SCORES = torch.tensor([[2.0, -1.0, 0.5], [-3.0, -2.0, -2.5]])
Z = torch.randn(10, 3, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network():
    torch.manual_seed(0)
    suffix = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Network(suffix, pool, nn.Linear(4, 2))


def test_forward_is_suffix_pool_and_head(network):
    network.eval()
    expected = network.head(network.suffix(Z).mean((2, 3)))
    torch.testing.assert_close(network(Z), expected)


def test_features_are_what_the_head_sees(network):
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network.train()
    features = network.features(Z, 4)
    assert network.suffix.training
    assert not features.requires_grad and features.device.type == "cpu"
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    network.eval()
    torch.testing.assert_close(network.head(features), network(Z))


def test_features_do_not_depend_on_the_batch_size(network):
    torch.testing.assert_close(network.features(Z, 1), network.features(Z, 10))


def test_features_need_no_head(network):
    expected = network.features(Z, 10)
    network.head = None
    assert torch.equal(network.features(Z, 10), expected)
    network.head = make_head("linear", expected.shape[1], 3, seed=0)
    assert network(Z).shape == (10, 3)


@pytest.mark.parametrize("mode", [True, False])
def test_features_leave_the_mode(network, mode):
    network.train(mode)
    network.features(Z, 4)
    modes = {m.training for m in network.modules()}
    assert modes == {mode}


class Double(nn.Module):
    def forward(self, z):
        return 2 * z if self.training else z


def test_forward_augments_in_train_mode_alone_and_scores_do_not():
    network = Network(nn.Identity(), nn.Flatten(), nn.Linear(8, 2), augment=Double())
    z = torch.rand(3, 2, 2, 2)
    assert torch.equal(network(z), network.scores(2 * z))
    assert torch.equal(network.scores(z), network.head(z.flatten(1)))
    network.eval()
    assert torch.equal(network(z), network.scores(z))
    assert torch.equal(network.features(z, 2), z.flatten(1))


def test_suffix_gets_maps_with_the_channels_last():
    seen = []
    suffix = nn.Conv2d(3, 4, 1)
    suffix.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    network = Network(suffix, nn.Flatten(), nn.Linear(4 * 25, 2))
    z = torch.rand(2, 3, 5, 5)
    network(z)
    network.features(z, 2)
    for given in seen:
        assert given.is_contiguous(memory_format=torch.channels_last)


def test_decide_returns_the_most_probable_class():
    outputs = Probabilities()
    torch.testing.assert_close(outputs(SCORES), torch.softmax(SCORES, dim=1))
    assert outputs.decide(outputs(SCORES).numpy()).tolist() == [0, 1]


def test_decide_returns_indicators_of_labels():
    outputs = Probabilities(multilabel=True)
    torch.testing.assert_close(outputs(SCORES), torch.sigmoid(SCORES))
    decided = outputs.decide(outputs(SCORES).numpy())
    np.testing.assert_array_equal(decided, [[1, 0, 1], [0, 0, 0]])
