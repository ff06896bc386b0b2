import copy
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from sktransfer.backbones import fingerprint, load_backbone

MAKE = """
import torch
from torch import nn
from sktransfer.backbones import load_backbone
layers = [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)]
for i, layer in enumerate(layers):
    for tensor in layer.parameters():
        tensor.data = torch.linspace(i, 1, tensor.numel()).reshape(tensor.shape)
backbone = load_backbone(nn.Sequential(*layers))
"""


def make():
    scope = {}
    exec(MAKE, scope)
    return scope["backbone"]


def test_fingerprint_is_the_same_for_another_object():
    first, second = make(), make()
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 32
    assert int(first.fingerprint, 16)
    assert copy.deepcopy(first).fingerprint == first.fingerprint


def test_fingerprint_is_the_same_in_another_process():
    code = (
        MAKE
        + """
names = ["input", *backbone.boundaries, "output"]
print(backbone.fingerprint, *map(backbone.probe_digest, names))
"""
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    here = make()
    names = ["input", *here.boundaries, "output"]
    digests = [here.probe_digest(name) for name in names]
    assert result.stdout.split() == [here.fingerprint, *digests]
    assert len({*digests}) == 4  # those of one node, and of the output, agree


def change_weight(module):
    module[0].weight.data[0, 0] += 1e-6


def change_buffer(module):
    module[1].running_mean[0] += 1e-6


def change_eps(module):
    module[1].eps *= 2


def change_layer(module):
    module[2] = nn.LeakyReLU()


def change_setting(module):
    module[2] = nn.LeakyReLU(0.5)


CHANGES = [
    change_weight,
    change_buffer,
    change_eps,
    change_layer,
    change_setting,
]


def test_fingerprint_changes_with_anything():
    found = {make().fingerprint}
    for change in CHANGES:
        module = make().module
        change(module)
        found.add(load_backbone(module).fingerprint)
    assert len(found) == len(CHANGES) + 1


def test_fingerprint_changes_with_stride():
    def of(stride):
        conv = nn.Conv2d(3, 4, 3, stride=stride, padding=1)
        nn.init.ones_(conv.weight)
        nn.init.ones_(conv.bias)
        module = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1))
        with pytest.warns(UserWarning, match="which preprocessing"):
            return load_backbone(module).fingerprint

    assert of(1) != of(2)
    assert of(2) == of(2)


def test_fingerprint_of_prefix_does_not_depend_on_the_suffix():
    backbone, other = make(), make()
    with torch.no_grad():
        other.module[3].weight[0, 0] += 1
    assert backbone.fingerprint != other.fingerprint
    prefixes = [fingerprint(b.split(1)[0]) for b in (backbone, other)]
    assert prefixes[0] == prefixes[1]
    whole = backbone.prefix_fingerprint("stem")
    assert whole == other.prefix_fingerprint("stem")
    assert whole.split() == [prefixes[0], backbone.probe_digest("stem")]
    suffixes = [fingerprint(b.split(1)[1]) for b in (backbone, other)]
    assert suffixes[0] != suffixes[1]


def test_fingerprint_does_not_depend_on_mode_or_freezing():
    backbone = make()
    before = backbone.fingerprint
    section = backbone.section("input", "output").train()
    assert fingerprint(section) == before
    assert fingerprint(section.freeze()) == before
    section.fixed_statistics = True
    assert fingerprint(section) == before


@pytest.mark.parametrize(
    ("first", "second"),
    [({"nhead": 2}, {"nhead": 4}), ({"norm_first": True}, {"norm_first": False})],
)
def test_fingerprint_changes_with_settings_of_layers_that_stay_whole(first, second):
    class Tokens(nn.Module):
        def __init__(self, **options):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(
                8, **{"nhead": 2, **options}, batch_first=True
            )
            self.fc = nn.Linear(8, 2)

        def forward(self, x):
            return self.fc(self.layer(x.unsqueeze(1))[:, 0])

    found = []
    for options in (first, second):
        module = Tokens(**options)
        for parameter in module.parameters():
            nn.init.ones_(parameter)
        found.append(load_backbone(module, n_features=8).fingerprint)
    assert found[0] != found[1]


def custom(source, **attributes):
    scope = {"nn": nn, "torch": torch, "__name__": "somewhere"}
    exec(
        f"class Custom(nn.Module):\n    def forward(self, x):\n        {source}", scope
    )
    layer = scope["Custom"]()
    vars(layer).update(attributes)
    return load_backbone(nn.Sequential(layer), n_features=3).fingerprint


def test_fingerprint_changes_with_the_code_of_a_layer():
    assert custom("return x * 2") != custom("return x * 3")
    assert custom("return x.relu()") != custom("return x.tanh()")
    assert custom("return x * 2") == custom("\n        return x * 2")
    inner = "return torch.stack([a * {} for a in x])"
    assert custom(inner.format(2)) != custom(inner.format(3))
    members = "return x * (2 if 'a' in {'a', 'b', 'c'} else 3)"
    assert custom(members) == custom(members)


def test_fingerprint_changes_with_plain_attributes_of_a_layer():
    code = "return x * self.by"
    assert custom(code, by=2.0) != custom(code, by=3.0)
    two, three = torch.tensor(2.0), torch.tensor(3.0)
    assert custom(code, by=two) != custom(code, by=three)
    assert custom(code, by=two) == custom(code, by=two.clone())


def test_fingerprint_has_no_addresses():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.thing = (object(),)

        def extra_repr(self):
            return repr(object())

        def forward(self, x):
            return x + 1

    found = {load_backbone(Odd(), n_features=3).fingerprint for _ in range(3)}
    assert len(found) == 1


def test_fingerprint_with_constant_tensors_survives_a_copy():
    class Constant(nn.Module):
        def forward(self, x):
            return x * torch.tensor([1.0, 2.0, 3.0])

    backbone = load_backbone(Constant(), n_features=3)
    before = backbone.fingerprint
    again = load_backbone(backbone.module, n_features=3)
    assert again.fingerprint == before


def test_fingerprint_of_empty_and_half_precision_tensors():
    module = nn.Sequential(nn.Linear(3, 2))
    module.register_buffer("empty", torch.zeros(0))
    backbone = load_backbone(module)
    before = backbone.fingerprint
    backbone.module.bfloat16()
    assert backbone.fingerprint != before


def twice(x, factor=2):
    return factor * x


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (torch.tanh, torch.relu),
        (twice, lambda x, factor=3: factor * x),
        (partial(twice, factor=2), partial(twice, factor=3)),
        ({"slope": 1}, {"slope": 2}),
        (None, 0.5),
        ([1, 2.0], (1, 2.0)),
    ],
)
@pytest.mark.parametrize("name", ["value", "_value"])
def test_values_of_a_layer_that_stays_whole_count(first, second, name):
    assert whole(first, name) == whole(first, name) != whole(second, name)


def recursive(start):
    def countdown(n):
        return countdown(n - 1) if n else start

    return countdown


def test_function_that_calls_itself_counts():
    first, same, other = (whole(recursive(n), "value") for n in (0, 0, 1))
    assert first == same != other


def test_fingerprint_of_an_undescribable_value_is_unique():
    assert whole(Secret(), "value") != whole(Secret(), "value")


class Whole(nn.Module):
    """Has no children, so it is not traced."""

    def forward(self, x):
        return x


class Secret:
    """Can be copied, but not pickled."""

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        raise TypeError("secret")


def whole(value, name):
    """Return the fingerprint of a network whose layer has a given value."""
    layer, first = Whole(), nn.Linear(3, 3)
    setattr(layer, name, value)
    nn.init.ones_(first.weight), nn.init.ones_(first.bias)
    backbone = load_backbone(nn.Sequential(first, layer))
    return fingerprint(backbone.section("input", "output"))


def test_fingerprint_of_weights_ignores_the_code():
    backbone = load_backbone(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    other = load_backbone(nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)))
    assert other.weights_fingerprint("output") != backbone.weights_fingerprint("output")
    other.module.load_state_dict(backbone.module.state_dict())
    (first, *_), last = backbone.stage_names, "output"
    for boundary in (first, last):
        known = backbone.weights_fingerprint(boundary)
        assert other.weights_fingerprint(boundary) == known
        assert other.prefix_fingerprint(boundary) != backbone.prefix_fingerprint(
            boundary
        )
    with torch.no_grad():
        other.module[2].bias[0] += 1
    assert other.weights_fingerprint(first) == backbone.weights_fingerprint(first)
    assert other.weights_fingerprint(last) != backbone.weights_fingerprint(last)


GATE = {"by": 1.0}


class Gate(nn.Module):
    """Calls code that may be edited."""

    def forward(self, x):
        return x * GATE["by"]


def test_code_of_no_library_is_described_again_but_weights_are_not(monkeypatch):
    first, last = nn.Linear(3, 3), nn.Linear(3, 2)
    backbone = load_backbone(nn.Sequential(first, Gate(), last))
    before = backbone.prefix_fingerprint("output")
    assert backbone.describe_prefix("output").is_complete
    monkeypatch.setitem(GATE, "by", 2.0)
    edited = backbone.prefix_fingerprint("output")
    monkeypatch.undo()
    assert edited != before == backbone.prefix_fingerprint("output")
    layer = backbone.module[0]
    layer.weight.numpy(force=True)[0, 0] += 1  # unseen, as they must not change
    assert backbone.prefix_fingerprint("output") == before
    assert backbone.fingerprint != load_backbone(nn.Sequential(first)).fingerprint


class Looks(nn.Module):
    """Depends on something that cannot be described."""

    def forward(self, x):
        return x * globals()["GATE"]["by"]


def test_prefix_that_cannot_be_described_is_that_of_one_object():
    layers = nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), Looks(), nn.Linear(3, 2)
    module = nn.Sequential(*layers)
    backbone = load_backbone(module)
    found = [backbone.describe_prefix(boundary) for boundary in ("stem", "output")]
    assert [d.is_complete for d in found] == [True, False]
    assert found[1].reason == "code that uses `globals`"
    keys = [backbone.prefix_fingerprint("output") for _ in range(2)]
    assert keys[0] == keys[1] != backbone.fork("stem").prefix_fingerprint("output")
    assert backbone.fork("output").prefix_fingerprint("output") == keys[0]
    twin = copy.deepcopy(backbone)
    assert twin.prefix_fingerprint("output") != keys[0]
    assert twin.prefix_fingerprint("stem") == backbone.prefix_fingerprint("stem")


def test_fingerprint_does_not_depend_on_the_names_of_layers():
    named = nn.Sequential()
    layers = nn.Linear(3, 3), nn.ReLU()
    for name, layer in zip("ab", layers, strict=True):
        named.add_module(name, layer)
    other = load_backbone(nn.Sequential(*layers))
    assert load_backbone(named).fingerprint == other.fingerprint
