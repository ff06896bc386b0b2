"""Changes of networks are noticed, whatever they change, and nothing else is."""

import collections
import copy
import functools
import sys
import types

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from sktransfer.utils import Watch
from sktransfer.utils.description import _watch

_FACTORS = {"of_globals": 1.0}
_scale = 1.0


def _double(module, inputs, output):
    return 2 * output


def _times_two(x):
    return 2 * x


def _replaced(self, x):
    return self.layer(x) - 1


class _Config:
    def __init__(self):
        self.shift, self.levels = 0.0, [1, 2]


class _Slotted:
    __slots__ = ("value",)

    def __init__(self):
        self.value = 1.0


class _Block(nn.Module):
    factor = 1.0

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.scale, self.flags = 1.0, {"on": [True]}
        self.config, self.names = _Config(), ["a"]
        self.constant = torch.ones(3)
        self.loose = [nn.ReLU()]
        self.register_buffer("count", torch.zeros(()))
        self.call = functools.partial(torch.add, 1)

    def forward(self, x):
        return (
            self.layer(x) * self.scale * self.factor * _scale * _FACTORS["of_globals"]
        )


def _make():
    torch.manual_seed(0)
    return nn.Sequential(_Block(), nn.ReLU(), nn.BatchNorm1d(3)).eval()


_EDITS = {
    "attribute": lambda m: setattr(m[0], "scale", -3.0),
    "new attribute": lambda m: setattr(m[0], "other", 1),
    "attribute of a layer without settings": lambda m: setattr(m, "other", 1),
    "deleted attribute": lambda m: delattr(m[0], "names"),
    "attribute of an attribute": lambda m: setattr(m[0].config, "shift", 1.0),
    "nested list": lambda m: m[0].flags["on"].append(False),
    "list of an object": lambda m: m[0].config.levels.clear(),
    "replaced constant": lambda m: setattr(m[0], "constant", torch.zeros(3)),
    "layer in a list": lambda m: setattr(m[0].loose[0], "inplace", True),
    "partial": lambda m: setattr(m[0], "call", functools.partial(torch.add, 2)),
    "setting of a layer": lambda m: setattr(m[2], "eps", 0.1),
    "replaced layer": lambda m: m.__setitem__(1, nn.GELU()),
    "new layer": lambda m: m.append(nn.ReLU()),
    "lost bias": lambda m: setattr(m[0].layer, "bias", None),
    "hook": lambda m: m[1].register_forward_hook(_double),
    "pre-hook": lambda m: m[1].register_forward_pre_hook(_double),
    "forward of an object": lambda m: setattr(m[1], "forward", _times_two),
    "class of a layer": lambda m: setattr(m[1], "__class__", nn.ReLU6),
}


@pytest.mark.parametrize("edit", _EDITS.values(), ids=_EDITS)
def test_edit_of_a_network_is_noticed(edit):
    network = _make()
    watch = Watch(network)
    assert not watch.has_changed()
    edit(network)
    assert watch.has_changed()
    assert watch.has_changed()  # until another watch begins
    assert not Watch(network).has_changed()


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (_Block, "forward", _replaced),
        (_Block, "factor", 2.0),
        (_Block.forward, "__code__", _replaced.__code__),
        (sys.modules[__name__], "_scale", 2.0),
        (nn.ReLU, "forward", _double),
        (nn.functional, "batch_norm", _double),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_edit_of_code_is_noticed(monkeypatch, owner, name, value):
    watch = Watch(_make())
    monkeypatch.setattr(owner, name, value)
    assert watch.has_changed()
    monkeypatch.undo()
    assert not watch.has_changed()


def test_edit_of_a_global_container_is_noticed(monkeypatch):
    watch = Watch(_make())
    monkeypatch.setitem(_FACTORS, "of_globals", 2.0)
    assert watch.has_changed()


def test_edit_of_a_closure_is_noticed():
    factor = 1.0

    class Closed(nn.Module):
        def forward(self, x):
            return factor * x

    watch = Watch(Closed())
    assert not watch.has_changed()
    factor = 2.0
    assert watch.has_changed()


def test_edit_of_a_users_module_is_noticed(monkeypatch):
    settings = types.ModuleType("settings_of_a_user")
    settings.inner = types.ModuleType("inner_settings_of_a_user")
    settings.inner.factor = 1.0
    monkeypatch.setitem(globals(), "settings", settings)

    class Configured(nn.Module):
        def forward(self, x):
            return settings.inner.factor * x

    watch = Watch(Configured())
    assert not watch.has_changed()
    settings.inner.factor = 2.0
    assert watch.has_changed()


@pytest.mark.parametrize("value", [np.zeros(3), _Slotted(), collections.deque([1])])
def test_content_that_identity_does_not_show_is_compared(value):
    network = nn.Sequential(nn.ReLU())
    network[0].held = value
    watch = Watch(network)
    assert not watch.has_changed()
    if isinstance(value, _Slotted):
        value.value = 2.0
    else:
        value[0] = 2
    assert watch.has_changed()


def test_networks_that_are_too_large_to_look_at_are_described(monkeypatch):
    monkeypatch.setattr(_watch, "_MOST", 5)
    network = _make()
    watch = Watch(network)
    assert not watch.has_changed()
    network[2].eps = 0.1
    assert watch.has_changed()


def test_what_the_layout_does_not_depend_on_is_no_change():
    network = _make()
    watch = Watch(network)
    with torch.no_grad():
        network[0].layer.weight.mul_(2)
        network.train()(torch.ones(4, 3))  # updates running statistics
    network.double().requires_grad_(False)
    network[0].layer.weight = nn.Parameter(torch.zeros(3, 3))
    network[0].scale = float("1.0")  # another object
    assert not watch.has_changed()


def test_copy_has_the_digest_of_the_original():
    network = _make()
    twin = copy.deepcopy(network)
    watch = Watch(twin, Watch(network).digest)
    assert watch.digest == Watch(twin).digest
    network[0].scale = 2.0
    assert not watch.has_changed()
    twin[0].scale = 2.0
    assert watch.has_changed()


def test_network_of_a_library_is_not_described_again(monkeypatch):
    network = torchvision.models.resnet18()
    watch = Watch(network)
    monkeypatch.setattr(_watch, "describe", None)
    assert not watch.has_changed()
