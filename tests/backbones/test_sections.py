import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from torchvision.models import SwinTransformer

from sktransfer.backbones import Section, load_backbone
from sktransfer.inputs.images._preprocessing import IMAGENET


@pytest.fixture
def backbone(resnet18):
    """Return a copy of ResNet-18 that may be changed."""
    return copy.deepcopy(resnet18)


def small():
    layers = [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5)]
    return load_backbone(nn.Sequential(*layers, nn.Linear(6, 2)), random_state=0)


def batch(n=8, d=4):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0))


def test_parameters_and_buffers_are_those_of_the_module(backbone):
    prefix, suffix = backbone.split("layer2")
    tensors = {**dict(prefix.named_parameters()), **dict(suffix.named_parameters())}
    assert tensors.keys() == dict(backbone.module.named_parameters()).keys()
    for name, tensor in tensors.items():
        assert tensor is backbone.module.get_parameter(name)
    assert not dict(prefix.named_parameters()).keys() & {
        name for name, _ in suffix.named_parameters()
    }
    assert prefix.get_submodule("layer1.0.bn1") is backbone.module.layer1[0].bn1


def test_state_dict_has_the_names_of_the_module(backbone):
    _, suffix = backbone.split("layer4")
    expected = {k for k in backbone.module.state_dict() if k.startswith("fc.")}
    assert suffix.state_dict().keys() == expected


def test_repr_names_the_boundaries():
    assert "'input' to '1'" in repr(small().section("input", "1"))


def test_freeze_survives_train_and_a_training_step(backbone, images):
    prefix, suffix = backbone.split("layer3")
    assert prefix.freeze() is prefix
    before = {k: v.clone() for k, v in prefix.state_dict().items()}
    optimiser = torch.optim.SGD(backbone.module.parameters(), lr=0.1)
    for _ in range(2):
        suffix.train()
        prefix.train()
        suffix(prefix(images())).square().sum().backward()
        optimiser.step()
    assert not prefix.training
    assert not any(layer.training for layer in prefix.modules())
    assert not any(p.requires_grad for p in prefix.parameters())
    for name, tensor in prefix.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert backbone.module.layer4[0].bn1.num_batches_tracked == 2


def test_frozen_section_stays_in_eval_mode_when_the_whole_module_trains(
    backbone, images
):
    prefix, _ = backbone.split("layer1")
    prefix.freeze()
    expected = prefix(images())
    backbone.module.train()
    assert torch.equal(prefix(images()), expected)
    assert backbone.module.bn1.num_batches_tracked == 0


def test_statistics_change_in_train_mode_unless_they_are_fixed():
    for fixed in (True, False):
        backbone = small()
        section = backbone.section("input", "output")
        section.fixed_statistics = fixed
        section.train()(batch())
        norm = backbone.module[1]
        assert norm.training is not fixed
        assert norm.num_batches_tracked == (not fixed)
        assert torch.equal(norm.running_mean, torch.zeros(6)) is fixed
        assert backbone.module[3].training
        assert section.eval() is section
        assert not backbone.module[3].training


class OwnNorm(nn.Module):
    """Normalises with buffers of its own."""

    def __init__(self, *children, positional=False):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(6))
        self.register_buffer("running_var", torch.ones(6))
        self.inner = nn.Sequential(*children) if children else None
        self.positional = positional

    def forward(self, x):
        mean, var, training = self.running_mean, self.running_var, self.training
        x = x if self.inner is None else self.inner(x)
        if self.positional:
            return F.batch_norm(x, mean, var, None, None, training)
        return F.batch_norm(x, mean, var, training=training)


class LowLevelNorm(OwnNorm):
    def forward(self, x):
        mean, var, training = self.running_mean, self.running_var, self.training
        x = self.inner(x)
        return torch.batch_norm(x, None, None, mean, var, training, 0.1, 1e-5, False)


@pytest.mark.parametrize(
    "norm",
    [
        OwnNorm(),  # a leaf of the graph
        OwnNorm(nn.ReLU()),  # traced
        OwnNorm(nn.ReLU(), positional=True),
        LowLevelNorm(nn.ReLU()),
    ],
)
def test_fixed_statistics_apply_to_custom_modules(norm):
    for fixed in (True, False):
        module = nn.Sequential(nn.Linear(4, 6), norm, nn.Linear(6, 2))
        backbone = load_backbone(module, random_state=0)
        section = backbone.section("input", "output")
        section.fixed_statistics = fixed
        out = section.train()(batch())
        mean = backbone.module[1].running_mean
        assert torch.equal(mean, torch.zeros(6)) is fixed
        if fixed:
            assert_close(out, backbone.module.eval()(batch()))


class BatchStatistics(nn.Module):
    """Has no running statistics that could be used."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 6)
        self.last = nn.Linear(6, 2)

    def forward(self, x):
        return self.last(F.batch_norm(self.inner(x), None, None, training=True))


@pytest.mark.filterwarnings("ignore:Samples go through BatchStatistics one at a time")
def test_norm_without_statistics_stays_as_it_is():
    backbone = load_backbone(BatchStatistics(), random_state=0)
    section = backbone.section("input", "output")
    section.fixed_statistics = True
    assert_close(section.train()(batch()), backbone.module(batch()))


def test_making_a_section_does_not_change_how_others_run(backbone, images):
    _, suffix = backbone.split("layer3")
    prefix = backbone.section("input", "layer3").freeze()
    suffix.train()
    z = prefix(images())
    backbone.fingerprint  # noqa: B018
    backbone.section("input", "output")
    suffix(z)
    assert backbone.module.layer4[0].bn1.num_batches_tracked == 1
    assert backbone.module.layer3[0].bn1.num_batches_tracked == 0


class OneDropout(nn.Module):
    """One dropout layer and one linear layer, used twice."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.c = nn.Linear(4, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.b(self.drop(self.a(x)))
        return self.c(self.a(self.drop(x)))


def test_shared_layer_runs_in_the_mode_of_the_running_section():
    backbone = load_backbone(OneDropout(), random_state=0)
    prefix, suffix = backbone.split("b")
    prefix.freeze()
    suffix.train()
    x = batch()
    assert torch.equal(prefix(x), prefix(x))
    assert not torch.equal(suffix(x), suffix(x))
    assert torch.equal(prefix(x), backbone.module.b(backbone.module.a(x)))


def test_weight_shared_by_prefix_and_suffix_is_one_and_frozen():
    backbone = load_backbone(OneDropout(), random_state=0)
    prefix, suffix = backbone.split("b")
    prefix.freeze()
    assert not suffix.a.weight.requires_grad
    assert prefix.a.weight is suffix.a.weight
    with torch.no_grad():
        expected = backbone.module.eval()(batch())
        assert torch.equal(suffix.eval()(prefix(batch())), expected)


def swin():
    """Return a small network with buffers of its own that no layer uses."""
    sizes = {"patch_size": [4, 4], "window_size": [4, 4]}
    return SwinTransformer(embed_dim=8, depths=[1, 1], num_heads=[1, 1], **sizes)


@pytest.mark.parametrize("name", ["swin", "torchvision/resnet18"])
def test_change_of_dtype_moves_the_buffers_of_the_module(name):
    spec, given = (swin, IMAGENET) if name == "swin" else (name, None)
    backbone = load_backbone(
        spec, weights=None, image_size=64, preprocessing=given, random_state=0
    )
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    prefix, suffix = backbone.split(2)
    assert prefix.to(torch.float64) is prefix
    assert {p.dtype for p in prefix.parameters()} == {torch.float64}
    assert {p.dtype for p in suffix.parameters()} == {torch.float32}
    suffix.double()
    floating = {
        tensor.dtype
        for tensor in backbone.module.state_dict().values()
        if tensor.is_floating_point()
    }
    assert floating == {torch.float64}
    with torch.no_grad():
        assert_close(suffix(prefix(x)), backbone.module(x))


class OwnTensors(nn.Module):
    """A buffer, a plain tensor and a constant, used by no layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.register_buffer("shift", torch.ones(4), persistent=False)
        self.register_buffer("kept", torch.ones(4))
        self.scale = nn.Parameter(torch.full((4,), 2.0))
        self.plain = torch.full((4,), 3.0)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        x = self.first(x) * self.scale + self.shift + self.kept
        return self.last(x * self.plain + torch.tensor([1.0, 2.0, 3.0, 4.0]))


def test_tensors_that_no_layer_holds_are_moved_in_the_module():
    module = OwnTensors()
    backbone = load_backbone(module)
    x = batch()
    section = backbone.section("first", "output")
    z = backbone.section("input", "first")(x)
    assert_close(section(z), module(x))
    assert "shift" not in section.state_dict()
    assert {"kept", "scale", "last.weight"} <= section.state_dict().keys()
    section.double()
    expected = {"shift", "kept", "scale", "plain"}
    for name in expected:
        assert getattr(backbone.module, name).dtype == torch.float64, name
    assert section(z.double()).dtype == torch.float64
    assert_close(section(z.double()).float(), module(x))


class Peeks(nn.Module):
    """Uses a layer, and also one of its tensors directly."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.norm(x - self.norm.running_mean))


def test_tensor_used_by_itself_moves_with_its_layer():
    module = Peeks().eval()
    module.norm.running_mean += torch.arange(4)
    backbone = load_backbone(module)
    section = backbone.section("input", "output")
    assert section.norm is backbone.module.norm
    section.double()
    assert backbone.module.norm.running_mean.dtype == torch.float64
    assert_close(section(batch().double()).float(), module(batch()))


@pytest.mark.parametrize("copier", [copy.deepcopy, "pickle"])
def test_copies_of_sections_keep_flags_and_share_their_backbone(
    backbone, images, copier
):
    def twin(thing):
        if copier == "pickle":
            return pickle.loads(pickle.dumps(thing))
        return copier(thing)

    prefix, suffix = backbone.split("layer3")
    prefix.freeze()
    suffix.fixed_statistics = True
    suffix.train()
    copied, prefix_, suffix_ = twin((backbone, prefix, suffix))
    assert isinstance(prefix_, Section)
    assert prefix_.frozen and not prefix_.training
    assert suffix_.fixed_statistics and suffix_.training and not suffix_.frozen
    assert not any(p.requires_grad for p in prefix_.parameters())
    assert all(p.requires_grad for p in suffix_.parameters())
    assert suffix_.fc.weight is copied.module.fc.weight
    assert suffix_.fc.weight is not suffix.fc.weight
    assert (prefix_.start, prefix_.stop) == ("input", "layer3")
    with torch.no_grad():
        z, z_ = prefix(images()), prefix_(images())
        assert torch.equal(z, z_)
        assert torch.equal(suffix(z), suffix_(z_))
    assert not backbone.module.layer4[0].bn1.training


def test_pickle_of_a_section_alone_takes_its_backbone_along(backbone, images):
    prefix, _ = backbone.split("layer2")
    twin = pickle.loads(pickle.dumps(prefix))
    with torch.no_grad():
        assert torch.equal(twin(images()), prefix(images()))
    assert twin.code == prefix.code


def test_section_between_two_boundaries(backbone, images):
    with torch.no_grad():
        z = backbone.section("input", "layer1")(images())
        expected = backbone.module.layer3(backbone.module.layer2(z))
        assert torch.equal(backbone.section("layer1", "layer3")(z), expected)
        assert torch.equal(backbone.section("layer1", "layer1")(z), z)


class Halved(nn.Module):
    """Wraps a layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x) / 2


def test_layers_are_replaced_in_the_section_and_in_the_module():
    backbone, x = small(), batch()
    layer = backbone.module[0]
    section = backbone.section("input", "1").eval()
    whole = backbone.section("input", "output").eval()
    expected = backbone.module[1](layer(x) / 2)
    before = section(x)
    halved = Halved(layer)
    section.replace_layers({layer: halved})
    assert section.get_submodule("0") is halved is backbone.module[0]
    assert_close(section(x), expected)
    assert_close(whole(x), backbone.module[4](expected.relu()))
    names = {name for name, _ in section.named_parameters()}
    assert names == {"0.layer.weight", "0.layer.bias", "1.weight", "1.bias"}
    section.replace_layers({halved: layer})
    assert section.get_submodule("0") is layer is backbone.module[0]
    assert torch.equal(section(x), before)


def test_shared_layer_is_replaced_at_all_its_paths():
    backbone = load_backbone(OneDropout(), random_state=0)
    module = backbone.module
    module.again = module.a  # a second path
    section = backbone.section("input", "output")
    halved = Halved(module.a)
    section.replace_layers({module.a: halved})
    assert section.a is module.a is module.again is halved


def test_layers_inside_others_are_replaced(backbone, images):
    _, suffix = backbone.split("layer3")
    conv = backbone.module.layer4[1].conv2
    twin = copy.deepcopy(conv)
    with torch.no_grad():
        twin.weight.zero_()
        z = torch.randn(2, 256, 4, 4, generator=torch.Generator().manual_seed(0))
        suffix.eval().replace_layers({conv: twin})
        assert suffix.get_submodule("layer4.1.conv2") is twin
        assert backbone.module.layer4[1].conv2 is twin
        x = images()
        prefix = backbone.section("input", "layer3").eval()
        assert torch.equal(suffix(prefix(x)), backbone.module.eval()(x))
        first = suffix(z)
        twin.weight.normal_()
        assert not torch.equal(suffix(z), first)


@pytest.mark.parametrize("mode", [True, False])
def test_new_layers_take_the_mode_of_the_section(mode):
    backbone = small()
    section = backbone.section("input", "output").train(mode)
    norm = nn.BatchNorm1d(6).train(not mode)
    section.replace_layers({backbone.module[1]: norm})
    assert norm.training is mode
    section(batch())
    assert norm.num_batches_tracked == mode


def test_new_layers_of_a_frozen_section_are_in_eval_mode():
    backbone = small()
    frozen = backbone.section("input", "output").freeze()
    drop = nn.Dropout(0.9)
    frozen.replace_layers({backbone.module[3]: drop})
    assert not drop.training and not frozen.train().training
    assert torch.equal(frozen(batch()), frozen(batch()))


def test_no_layers_to_replace_change_nothing():
    backbone = small()
    section = backbone.section("input", "output")
    layers = list(section.modules())
    section.replace_layers({})
    assert list(section.modules()) == layers


class Shares(nn.Module):
    """One BatchNorm behind two layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.norm, self.last = nn.BatchNorm1d(4), nn.BatchNorm1d(2)

    def forward(self, x):
        return self.last(self.c(self.norm(self.b(self.norm(self.a(x))))))


def test_layer_shared_with_a_frozen_prefix_does_not_change():
    backbone = load_backbone(Shares(), random_state=0)
    prefix, suffix = backbone.split("a")
    assert suffix.shared_layers() == []
    prefix, suffix = backbone.section("input", "b"), backbone.section("b", "output")
    suffix.requires_grad_(True)
    prefix.freeze()
    suffix.fixed_shared = True
    assert suffix.train().shared_layers() == [backbone.module.norm]
    before = copy.deepcopy(backbone.module.norm.state_dict())
    suffix(prefix(torch.randn(5, 3))).sum().backward()
    assert not backbone.module.norm.training and backbone.module.last.training
    for name, tensor in backbone.module.norm.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert backbone.module.norm.weight.grad is None
    assert backbone.module.last.num_batches_tracked == 1
    assert copy.deepcopy(suffix).fixed_shared
