import copy
import pickle
import re
from dataclasses import replace
from itertools import pairwise

import pytest
import timm
import torch
from torch import nn
from torch.testing import assert_close

from sktransfer.backbones import Backbone, load_backbone, use_of_backbones
from sktransfer.backbones._boundaries import tensors_in
from sktransfer.inputs import ImagePreprocessing, VectorPreprocessing

SMALL = ImagePreprocessing(
    size=(8, 8), resize=8, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3
)


def test_attributes(resnet18):
    assert resnet18.name == "torchvision/resnet18"
    assert resnet18.provider == "torchvision"
    assert resnet18.weights is None
    assert resnet18.n_parameters == 11_689_512
    assert repr(resnet18) == "<Backbone torchvision/resnet18, 5 stages>"
    assert resnet18.stage_names == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert list(resnet18.boundaries) == [
        *["conv1", "bn1", "relu", "stem"],
        *["layer1.0", "layer1", "layer2.0", "layer2"],
        *["layer3.0", "layer3", "layer4.0", "layer4"],
    ]


def test_repr_of_a_network_without_stages():
    grey = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())  # takes no RGB images
    assert repr(Backbone(grey, preprocessing=SMALL)) == (
        "<Backbone Sequential, unknown stages>"
    )


def test_name_is_the_class_by_default():
    backbone = Backbone(nn.Linear(3, 2), preprocessing=VectorPreprocessing(3))
    assert (backbone.name, backbone.provider) == ("Linear", None)


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (0, "input"),
        (1, "stem"),
        (5, "layer4"),
        (-1, "layer3"),
        (-5, "input"),
        ("layer2.0", "layer2.0"),
        ("layer2.0.bn2", None),
        ("layer2.1.relu", None),
        ("input", "input"),
        ("features", "features"),
        ("output", "output"),
    ],
)
def test_boundary(resnet18, where, name):
    if name is None:  # two tensors are live there, or the module is called twice
        with pytest.raises(ValueError, match="has no boundary"):
            resnet18.boundary(where)
    else:
        assert resnet18.boundary(where) == name


NAMES = "'stem', 'layer1', 'layer2', 'layer3', 'layer4'"


@pytest.mark.parametrize(
    ("where", "end"),
    [
        ("layr3", " Did you mean 'layer3'"),
        (6, "in \\[-5, 5\\]\\.$"),
        (-6, "in \\[-5, 5\\]\\.$"),
        (99, "in \\[-5, 5\\]\\.$"),
        ("", "in \\[-5, 5\\]\\.$"),
        (True, "in \\[-5, 5\\]\\.$"),
        (0.5, "in \\[-5, 5\\]\\.$"),
        (None, "in \\[-5, 5\\]\\.$"),
        (["stem"], "in \\[-5, 5\\]\\."),
    ],
)
def test_boundary_unknown(resnet18, where, end):
    text = (
        f"torchvision/resnet18 has no boundary .*. It must be one of \\[{NAMES}\\], a "
        f"block inside them \\(see `describe_backbone`\\), or an int .*{end}"
    )
    with pytest.raises(ValueError, match=text) as error:
        resnet18.split(where)
    assert f"no boundary {where!r}." in str(error.value)


def test_n_stages_before(resnet18):
    counts = {
        "input": 0,
        "conv1": 0,
        "stem": 1,
        "layer1.0": 1,
        "layer3": 4,
        "features": 5,
        "output": 5,
    }
    assert {name: resnet18.n_stages_before(name) for name in counts} == counts


def test_in_order(resnet18):
    names = ["output", "layer2", "layer1.0", "input", "layer2", "features"]
    expected = ["input", "layer1.0", "layer2", "features", "output"]
    assert resnet18.in_order(names) == expected


@pytest.mark.parametrize(
    ("boundary", "shape"),
    [
        ("input", (3, 64, 64)),
        ("conv1", (64, 32, 32)),
        ("stem", (64, 16, 16)),
        ("layer4", (512, 2, 2)),
        ("features", (512,)),
        ("output", (1000,)),
    ],
)
def test_activation_shape(resnet18, boundary, shape):
    assert resnet18.activation_shape(boundary) == shape
    prefix, _ = resnet18.split(boundary)
    assert prefix(torch.zeros(1, 3, 64, 64)).shape == (1, *shape)


def test_multiply_adds_of_sections_sum_to_the_whole(resnet18):
    whole = resnet18.multiply_adds("input", "output")
    names = ["input", *resnet18.stage_names, "output"]
    parts = [resnet18.multiply_adds(a, b) for a, b in pairwise(names)]
    assert sum(parts) == whole
    assert parts[0] == 64 * 32 * 32 * 3 * 7 * 7
    assert parts[-1] == 512 * 1000
    assert resnet18.multiply_adds("output", "output") == 0


def test_largest_activation_bytes(resnet18):
    assert resnet18.largest_activation_bytes == 4 * 64 * 32 * 32


class Branches(nn.Module):
    """Cannot be traced: it depends on values."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(4, 4)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        if x.sum() > 100:
            x = x / 2
        return self.fc(self.drop(self.lin(x)))


def test_network_that_cannot_be_traced_is_one_stage_with_a_warning():
    backbone = load_backbone(Branches(), random_state=0)
    text = (
        "Branches cannot be traced by torch.fx \\(TraceError: symbolically traced .*"
        "so it is a single stage: `freeze` can be 'all' or 'none'."
    )
    with pytest.warns(UserWarning, match=text):
        assert backbone.stage_names == ["network"]
    x = torch.randn(3, 4)
    expected = backbone.module(x)
    for k in (0, 1):
        prefix, suffix = backbone.split(k)
        assert not prefix.training and not suffix.training
        assert torch.equal(suffix(prefix(x)), expected)
    prefix.freeze()
    assert torch.equal(prefix.train()(x), expected)
    twin = pickle.loads(pickle.dumps(backbone))  # warns no second time
    assert twin.stage_names == ["network"]
    assert torch.equal(twin.module(x), expected)
    assert twin.fingerprint == backbone.fingerprint


def test_network_that_does_not_run_on_its_inputs():
    module = timm.create_model("test_vit3")
    preprocessing = replace(SMALL, size=(64, 64))
    backbone = Backbone(module, preprocessing=preprocessing, name="mine")
    text = (
        "mine cannot be run on model inputs of shape \\(n, 3, 64, 64\\) "
        "\\(AssertionError: Input height .*\\). If it takes one image size only, pass "
        "that as `image_size`, or make a network for the size that you want."
    )
    with pytest.raises(ValueError, match=text):
        backbone.stages  # noqa: B018


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(4, 2)),
        nn.Sequential(nn.EmbeddingBag(4, 2), nn.Linear(2, 2)),
    ],
)
def test_network_that_does_not_take_its_vectors(module):
    backbone = load_backbone(module, n_features=3)
    text = (
        "Sequential cannot be run on model inputs of shape \\(n, 3\\) \\(RuntimeError: "
        ".*\\). Its first layer must take float32 rows of that length, which is "
        "`n_features` or the number of columns of X."
    )
    with pytest.raises(ValueError, match=text):
        backbone.stages  # noqa: B018


@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))]
)
def test_copies_give_the_same(resnet18, images, twin):
    copied = twin(resnet18)
    assert copied.stages == resnet18.stages
    assert copied.preprocessing == resnet18.preprocessing
    assert copied.fingerprint == resnet18.fingerprint
    assert copied.module is not resnet18.module
    with torch.no_grad():
        assert torch.equal(copied.module(images()), resnet18.module(images()))
        z = copied.split("layer2")[0](images())
        assert torch.equal(z, resnet18.split("layer2")[0](images()))


def test_fork_has_weights_of_its_own(resnet18):
    known = resnet18.prefix_fingerprint("layer1")
    twin = resnet18.fork("layer2")
    ids = {id(p) for p in resnet18.module.parameters()}
    assert not ids & {id(p) for p in twin.module.parameters()}
    assert twin.stage_names == resnet18.stage_names
    x = torch.zeros(1, 3, 64, 64)
    before = resnet18.module(x)
    with torch.no_grad():
        twin.module.fc.bias += 1
    assert_close(twin.module(x), before + 1)
    with torch.no_grad():
        twin.module.conv1.weight *= 2
    assert torch.equal(resnet18.module(x), before)
    assert resnet18.prefix_fingerprint("layer1") == known


def test_fork_takes_frozen_sections_from_where_it_came(resnet18):
    twin = resnet18.fork("layer2")
    assert twin.owner("layer1") is twin.owner("layer2") is resnet18
    assert twin.owner("layer3") is twin
    frozen = twin.frozen_section("input", "layer1")
    assert frozen is resnet18.frozen_section("input", "layer1")
    assert twin.fork("layer1").owner("layer1") is resnet18
    assert pickle.loads(pickle.dumps(twin)).owner("layer1") is not resnet18


def test_fork_forgets_fingerprints_above_the_boundary(resnet18):
    resnet18.prefix_fingerprint("layer4")
    twin = resnet18.fork("layer2")
    with torch.no_grad():
        twin.module.layer4[0].conv1.weight += 1
    assert twin.prefix_fingerprint("layer4") != resnet18.prefix_fingerprint("layer4")
    assert twin.prefix_fingerprint("layer2") == resnet18.prefix_fingerprint("layer2")


def test_frozen_section_is_made_once(resnet18):
    backbone = copy.deepcopy(resnet18)
    section = backbone.frozen_section("input", "layer1")
    assert section is backbone.frozen_section("input", "layer1")
    assert section.frozen and not section.training


def test_fingerprint_is_not_remembered():
    backbone = load_backbone(nn.Linear(3, 2))
    before = backbone.fingerprint
    with torch.no_grad():
        backbone.module.bias[0] += 1
    assert backbone.fingerprint != before


def test_classifier_may_be_given():
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    backbone = Backbone(module, preprocessing=VectorPreprocessing(3), classifier=["2"])
    assert backbone.stage_names == ["0"]
    assert backbone.activation_shape("features") == (4,)


class Modes(nn.Module):
    """The graphs of train and eval mode differ."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.c = nn.Linear(4, 4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = self.a(x)
        x = self.b(x).relu() * 2 if self.training else self.b(x)
        return self.fc(self.c(x))


def test_train_and_eval_mode_have_a_graph_each():
    module = Modes().eval()
    backbone = load_backbone(module)
    x = torch.randn(3, 4)
    for name in ("a", "b", "c"):
        prefix, suffix = backbone.split(name)
        assert_close(suffix(prefix(x)), module.eval()(x))
        assert_close(suffix.train()(prefix.train()(x)), module.train()(x))
        mixed = prefix.freeze()(x)
        if name == "b":  # what follows the end of b is above the boundary
            assert_close(mixed, module.b(module.a(x)))
            expected = module.fc(module.c(mixed.relu() * 2))
            assert_close(suffix.train()(mixed), expected)


def test_classifier_layers_are_those_after_the_features(resnet18):
    assert resnet18.classifier_layers() == ["fc"]
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert load_backbone(module).classifier_layers() == []


class Returns(nn.Module):
    """Returns what a function makes of the output of three layers."""

    def __init__(self, returned):
        super().__init__()
        self.returned = returned
        self.a = nn.Linear(4, 5)
        self.b = nn.Linear(5, 6)
        self.c = nn.Linear(6, 2)

    def forward(self, x):
        return self.returned(self.c(self.b(self.a(x))))


@pytest.mark.parametrize(
    ("returned", "kind"),
    [
        (lambda z: {"o": z, "p": z + 1}, "dict"),
        (lambda z: (z, z + 1), "tuple"),
        (lambda z: [z, z + 1], "list"),
    ],
)
def test_network_that_returns_several_tensors_has_features(returned, kind):
    module = Returns(returned)
    backbone = load_backbone(module)
    assert backbone.stage_names == ["a", "b", "c"]
    assert backbone.activation_shape("features") == (2,)
    x = torch.randn(3, 4)
    z = backbone.section("input", "features")(x)
    assert torch.equal(z, module.c(module.b(module.a(x))))
    assert type(backbone.split("a")[1](module.a(x))) is type(module(x))
    text = f"^Returns returns a value of type {kind}, but a backbone must return one "
    with pytest.raises(TypeError, match=text):
        backbone.activation_shape("output")


class Holds(nn.Module):
    """Returns what a function makes of the outputs of its three layers."""

    def __init__(self, returned):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 3) for _ in range(3))
        self.fc = nn.Linear(3, 2)
        self.returned = returned

    def forward(self, x):
        a = self.a(x)
        b = self.b(a)
        c = self.c(b)
        return self.returned(a, b, c, self.fc(c.mean((2, 3))))


def image_backbone(module):
    preprocessing = SMALL.with_size(12)
    return load_backbone(module, preprocessing=preprocessing, random_state=0)


@pytest.mark.parametrize(
    ("returned", "kind", "place"),
    [
        (lambda a, b, c, y: [a, b, c], "list", "[-1]"),
        (lambda a, b, c, y: (y, b, "mid"), "tuple", "[-2]"),
        (lambda a, b, c, y: {"out": c, "aux": b}, "dict", "['out']"),
        (lambda a, b, c, y: {"maps": [b, c]}, "dict", "['maps'][-1]"),
    ],
)
def test_several_outputs_that_would_drop_layers_are_refused(returned, kind, place):
    backbone = image_backbone(Holds(returned))
    text = (
        f"Holds returns a value of type {kind}, but a backbone must return one tensor. "
        "Wrap it in an nn.Module whose `forward` returns the tensor to go on from, as "
        f"in `return self.network(x){place}`."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        backbone.stages  # noqa: B018


@pytest.mark.parametrize(
    "returned",
    [lambda a, b, c, y: (y, c), lambda a, b, c, y: {"y": y, "p": c.mean((2, 3))}],
)
def test_pooled_and_classified_outputs_are_in_no_stage(returned):
    backbone = image_backbone(Holds(returned))
    assert backbone.stage_names == ["stem", "c"]
    assert backbone.activation_shape("features") == (3, 6, 6)


@pytest.mark.parametrize(
    "returned",
    [lambda a, b, c, y: {"out": c}, lambda a, b, c, y: [c], lambda a, b, c, y: ([c],)],
)
def test_one_tensor_in_a_container_is_that_tensor(returned):
    backbone = image_backbone(Holds(returned))
    prefix, suffix = backbone.split(1)
    x = torch.randn(2, 3, 12, 12)
    (expected,) = tensors_in(backbone.module(x))
    assert torch.equal(suffix(prefix(x)), expected)
    assert backbone.activation_shape("output") == (3, 6, 6)


class WholeDictionary(Branches):
    def forward(self, x):
        return {"o": super().forward(x)}


@pytest.mark.filterwarnings("ignore:WholeDictionary cannot be traced")
def test_one_tensor_of_a_network_that_cannot_be_traced():
    backbone = load_backbone(WholeDictionary(), random_state=0)
    assert backbone.stage_names == ["network"]
    assert isinstance(backbone.network, WholeDictionary)
    x = torch.randn(3, 4)
    prefix, suffix = backbone.split(1)
    assert torch.equal(suffix(prefix(x)), backbone.network(x)["o"])


class SeveralInTraining(Holds):
    def forward(self, x):
        y, b = super().forward(x)
        return (y, b) if self.training else y


def test_auxiliary_output_in_training_that_would_drop_layers_is_refused():
    backbone = image_backbone(SeveralInTraining(lambda a, b, c, y: (y, b)))
    with pytest.raises(
        TypeError, match="SeveralInTraining returns a value of type tup"
    ):
        backbone.stages  # noqa: B018


@pytest.mark.parametrize(
    ("module", "place"),
    [
        (nn.LSTM(4, 3), "[-1][-1]"),
        (nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.LSTM(5, 3)), "[-1][-1]"),
    ],
)
def test_recurrent_network_returns_several_tensors(module, place):
    backbone = load_backbone(module, n_features=4)
    with pytest.raises(TypeError, match=re.escape(f"self.network(x){place}`.")):
        backbone.stages  # noqa: B018


def test_weights_of_a_fork_are_copied_when_they_are_asked_for(resnet18):
    fork = resnet18.fork("layer4")
    assert fork.activation_shape("layer4") == resnet18.activation_shape("layer4")
    fork.frozen_section("input", "layer1"), fork.prefix_fingerprint("layer1")
    assert fork._module is None
    assert fork.module is fork.module is not resnet18.module


class _Scaled(nn.Module):
    factor = 1.0

    def __init__(self, n_in, n_out):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.scale = 1.0

    def forward(self, x):
        return self.linear(x).relu() * self.scale * self.factor


def _scaled():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(_Scaled(4, 8), _Scaled(8, 8), _Scaled(8, 3))
    return load_backbone(network)


def _triple(module, inputs, output):
    return 3 * output


def _new_forward(self, x):
    return -self.linear(x).relu()


def _edit_attribute(network, monkeypatch):
    network[1].scale = -3.0


def _edit_hooks(network, monkeypatch):
    network[1].register_forward_hook(_triple)


def _edit_layers(network, monkeypatch):
    network[1] = nn.Sequential(network[1], nn.Tanh())


def _edit_class(network, monkeypatch):
    monkeypatch.setattr(type(network[0]), "factor", 2.0)


def _edit_code(network, monkeypatch):
    monkeypatch.setattr(type(network[0]), "forward", _new_forward)


EDITS = [_edit_attribute, _edit_hooks, _edit_layers, _edit_class, _edit_code]


def _check_split(backbone, x):
    expected = backbone.module(x)
    prefix, suffix = backbone.split(2)
    assert_close(suffix(prefix(x)), expected, rtol=0, atol=0)
    return expected


@pytest.mark.parametrize("edit", EDITS)
def test_layout_follows_edits_of_the_network(edit, monkeypatch):
    backbone, x = _scaled(), torch.randn(2, 4)
    before, key = _check_split(backbone, x), backbone.prefix_fingerprint("1")
    edit(backbone.module, monkeypatch)
    twin, copied = pickle.loads(pickle.dumps(backbone)), copy.deepcopy(backbone)
    after = _check_split(backbone, x)
    assert not torch.equal(after, before)
    assert backbone.prefix_fingerprint("1") != key
    for other in (twin, copied, load_backbone(backbone)):
        assert torch.equal(_check_split(other, x), after)
        assert other.prefix_fingerprint("1") == backbone.prefix_fingerprint("1")


@pytest.mark.parametrize("edit", EDITS)
def test_copy_follows_its_own_edits(edit, monkeypatch):
    backbone, x = _scaled(), torch.randn(2, 4)
    before = _check_split(backbone, x)
    twin = copy.deepcopy(backbone)
    edit(twin.module, monkeypatch)
    assert not torch.equal(_check_split(twin, x), before)
    of_class = edit in (_edit_class, _edit_code)
    assert torch.equal(_check_split(backbone, x), before) != of_class


@pytest.mark.parametrize("edit", EDITS)
def test_fork_follows_edits_of_its_origin(edit, monkeypatch):
    backbone, x = _scaled(), torch.randn(2, 4)
    fork = backbone.fork("1")
    before = fork.frozen_section("input", "1")(x)
    edit(backbone.module, monkeypatch)
    assert fork.stage_names == backbone.stage_names
    after = fork.frozen_section("input", "1")(x)
    assert not torch.equal(after, before)
    assert torch.equal(after, backbone.split("1")[0](x))
    _check_split(fork, x)


def test_layout_that_holds_is_not_found_again(monkeypatch):
    backbone = _scaled()
    layout = backbone.layout
    with torch.no_grad():
        backbone.module[0].linear.weight.mul_(2)
    backbone.module.train().requires_grad_(False)
    assert backbone.layout is layout
    assert copy.deepcopy(backbone).layout is layout
    assert backbone.fork("0").layout is layout


def test_code_is_compared_once_in_a_use():
    backbone = _scaled()
    layout = backbone.layout
    with use_of_backbones():
        assert backbone.layout is layout
        backbone.module[0].scale = 2.0  # must not be done, and is not looked for
        with use_of_backbones():
            assert backbone.layout is layout
        assert backbone.layout is layout
    assert backbone.layout is not layout
