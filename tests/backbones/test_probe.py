import copy
from types import MethodType

import pytest
import timm
import torch
from torch import nn
from torchvision.models import resnet18

from sktransfer.backbones import load_backbone
from sktransfer.backbones._probe import outline


class Layers(nn.Module):
    """Three linear layers; a function changes the input."""

    def __init__(self, change):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.change = change

    def forward(self, x):
        return self.c(self.b(self.a(self.change(self, x))))


def backbone_of(change):
    return load_backbone(Layers(change), random_state=0)


def doubled_if_tensor(network, x):
    return 2 * x if isinstance(x, torch.Tensor) else x


def doubled_where_nothing_fails(network, x):
    try:
        return 2 * x if x.sum() < 1e9 else x
    except torch.fx.proxy.TraceError:
        return x


def halved_batch(network, x):
    return x + x.shape[0] // 2


def overwritten_unseen(network, x):
    x.data.mul_(2)
    return x


def doubled_in_training(network, x):
    return 2 * x if network.training and isinstance(x, torch.Tensor) else x


DIFFERENCES = [
    doubled_if_tensor,
    doubled_where_nothing_fails,
    overwritten_unseen,
    doubled_in_training,
]


@pytest.mark.parametrize("change", DIFFERENCES)
def test_network_that_differs_from_its_graph_is_one_stage(change):
    backbone = backbone_of(change)
    mode = "train" if change is doubled_in_training else "eval"
    text = (
        "^Layers is a single stage, as its parts do not compute together what it does "
        f"as a whole: in {mode} mode the outputs differ by .*, where the largest value "
        "is .*. `freeze` can be 'all' or 'none'.$"
    )
    with pytest.warns(UserWarning, match=text):
        assert backbone.stage_names == ["network"]
    x = torch.randn(3, 4)
    given = x.clone()
    prefix, suffix = backbone.split(1)
    with torch.no_grad():
        found = suffix(prefix(x))
        assert torch.equal(x, given)
        assert torch.equal(found, backbone.network(given))
    assert backbone.impurity is None


@pytest.mark.filterwarnings("ignore:Samples go through")
def test_size_across_a_boundary_that_is_no_multiple_of_the_batch():
    text = "a single stage, .*: a value that is no tensor depends on more than the batc"
    with pytest.warns(UserWarning, match=text):
        assert backbone_of(halved_batch).stage_names == ["network"]


def test_digest_of_a_prefix_changes_with_it_alone():
    backbone = load_backbone(nn.Sequential(*(nn.Linear(3, 3) for _ in range(3))))
    other = copy.deepcopy(backbone)
    with torch.no_grad():
        other.module[1].weight += 1
    assert backbone.probe_digest("0") == other.probe_digest("0")
    assert backbone.probe_digest("1") != other.probe_digest("1")
    fork = other.fork("1")
    with torch.no_grad():
        fork.module[1].weight += 1
    assert fork.probe_digest("1") == other.probe_digest("1")
    assert fork.probe_digest("2") != other.probe_digest("2")


def test_findings_are_remembered_for_networks_of_the_libraries(monkeypatch):
    layers = nn.Linear(4, 7), nn.Linear(7, 2)
    expected = load_backbone(nn.Sequential(*layers)).stage_names
    monkeypatch.setattr("sktransfer.backbones._probe._probe", None)
    assert load_backbone(nn.Sequential(*layers)).stage_names == expected
    with pytest.raises(TypeError, match="not callable"):
        load_backbone(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))).stages  # noqa: B018


@pytest.mark.parametrize(
    "make", [lambda: timm.create_model("tf_efficientnet_lite0"), resnet18]
)
def test_outline_is_that_of_the_architecture(make):
    first, second = make(), make()
    assert outline(first) == outline(second) is not None
    list(second.children())[-1].bias = None
    assert outline(first) != outline(second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, padding_mode="circular")),
        (nn.Dropout(0.1), nn.Dropout(0.2)),
        (nn.Linear(2, 2), nn.Linear(2, 2).double()),
        (nn.Sequential(nn.ReLU(), nn.ReLU()), nn.Sequential(nn.ReLU(), nn.GELU())),
    ],
)
def test_settings_change_the_outline(one, other):
    assert outline(one) != outline(other)


class Own(nn.Linear):
    pass


def hooked():
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(lambda module, args, output: output)
    return layer


def replaced():
    layer = nn.Linear(2, 2)
    layer.forward = MethodType(lambda self, x: x, layer)
    return layer


def holding(value):
    layer = nn.Linear(2, 2)
    layer.held = value
    return layer


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(Own(2, 2)),
        hooked,
        replaced,
        lambda: holding([nn.ReLU()]),
        lambda: holding(lambda x: x),
        lambda: holding(torch.Generator()),
        lambda: holding(object()),
    ],
    ids=["class", "hook", "method", "layer", "function", "generator", "object"],
)
def test_network_with_code_of_no_library_has_no_outline(make):
    assert outline(make()) is None


def mixing(weight):
    """Return a network that mixes samples, if the weight of its norm hides nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        norm = nn.BatchNorm1d(4, track_running_stats=False)
        network = nn.Sequential(nn.Linear(3, 4), norm, nn.ReLU(), nn.Linear(4, 2))
    nn.init.constant_(norm.weight, weight)
    return network


@pytest.mark.filterwarnings("ignore:Samples go through")
@pytest.mark.parametrize("weight", [0.0, 1e-6, float("nan")])
def test_weights_do_not_hide_what_layers_do(weight, monkeypatch):
    monkeypatch.setattr("sktransfer.backbones._probe._remembered", {})
    for network in (mixing(weight), mixing(1.0)):
        before = copy.deepcopy(network.state_dict())
        assert "other samples" in load_backbone(network).impurity
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, before[name], equal_nan=True)


def test_networks_that_compute_nan_are_not_remembered(monkeypatch):
    remembered = {}
    monkeypatch.setattr("sktransfer.backbones._probe._remembered", remembered)
    network = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3))
    nn.init.constant_(network[0].bias, float("nan"))
    assert load_backbone(network).stage_names == ["0", "1"]
    assert not remembered
