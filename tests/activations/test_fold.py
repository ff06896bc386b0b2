from types import MethodType

import pytest
import torch
from timm.layers import BatchNormAct2d, Conv2dSame, StdConv2d
from torch import nn

from sktransfer.activations._fold import (
    fold_batch_norm,
    halve,
    is_plain_convolution,
    round_kernels,
)
from sktransfer.backbones import load_backbone
from sktransfer.inputs import ImagePreprocessing

PREPROCESSING = ImagePreprocessing(
    size=(12, 12), resize=12, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1)
)
KINDS = (nn.BatchNorm2d, BatchNormAct2d)


def used(norm):
    """Set statistics and weights of a BatchNorm as after training."""
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.normal_()
        norm.running_var.uniform_(0.5, 2)
    return norm


def section_of(*layers):
    torch.manual_seed(0)
    network = nn.Sequential(*layers, nn.Conv2d(4, 2, 1))
    backbone = load_backbone(network, preprocessing=PREPROCESSING)
    return backbone.frozen_section("input", "output")


def norms(module):
    return [layer for layer in module.modules() if isinstance(layer, KINDS)]


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(3, 4, 3), used(nn.BatchNorm2d(4))),
        (nn.Conv2d(3, 4, 3, bias=False), used(nn.BatchNorm2d(4)), nn.ReLU()),
        (Conv2dSame(3, 4, 3, stride=2), used(BatchNormAct2d(4))),
        (Conv2dSame(3, 4, 3), used(BatchNormAct2d(4, apply_act=False))),
        (nn.Conv2d(3, 4, 3, groups=1), nn.BatchNorm2d(4, affine=False)),
    ],
)
def test_folded_computes_the_same_without_batch_norm(layers):
    section = section_of(*layers)
    before = {k: v.clone() for k, v in section.state_dict().items()}
    folded = fold_batch_norm(section)
    x = torch.randn(3, 3, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), section(x), rtol=1e-5, atol=1e-5)
    assert len(norms(section)) == 1 and norms(folded) == []
    for name, tensor in section.state_dict().items():
        assert torch.equal(tensor, before[name]), name


class Twice(nn.Module):
    """One convolution that is called twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), used(nn.BatchNorm2d(3))
        self.last = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.last(self.norm(self.conv(self.conv(x))))


class ReadsWeight(nn.Module):
    """A convolution whose weight a function reads as well."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), used(nn.BatchNorm2d(4))

    def forward(self, x):
        return self.norm(self.conv(x)) * self.conv.weight.norm()


class ReadsStatistics(ReadsWeight):
    """A BatchNorm whose statistics a function reads as well."""

    def forward(self, x):
        return self.norm(self.conv(x)) * self.norm.running_mean.sum()


class Tied(nn.Module):
    """Two convolutions that share their weight."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), used(nn.BatchNorm2d(3))
        self.other, self.last = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 1)
        self.other.weight = self.conv.weight

    def forward(self, x):
        return self.last(self.other(self.norm(self.conv(x))))


def with_method(layer, name, method):
    """Replace a method on the instance."""
    setattr(layer, name, MethodType(method, layer))
    return layer


def doubled(self, x):
    return 2 * type(self).forward(self, x)


def doubled_weight(self, x, weight, bias):
    return nn.functional.conv2d(x, 2 * weight, bias)


class Branch(nn.Module):
    """A convolution whose result is used twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), used(nn.BatchNorm2d(4))

    def forward(self, x):
        z = self.conv(x)
        return self.norm(z) + z


class Hooked(nn.Conv2d):
    """Doubles its weight before it uses it."""

    def forward(self, x):
        return self._conv_forward(x, 2 * self.weight, self.bias)


@pytest.mark.parametrize(
    "layers",
    [
        (Twice(),),
        (Branch(),),
        (StdConv2d(3, 4, 3), used(nn.BatchNorm2d(4))),
        (Hooked(3, 4, 3), used(nn.BatchNorm2d(4))),
        (nn.Conv2d(3, 4, 3), nn.ReLU(), used(nn.BatchNorm2d(4))),
        (ReadsWeight(),),
        (ReadsStatistics(),),
        (Tied(),),
        (
            with_method(nn.Conv2d(3, 4, 3), "forward", doubled),
            used(nn.BatchNorm2d(4)),
        ),
        (
            with_method(nn.Conv2d(3, 4, 3), "_conv_forward", doubled_weight),
            used(nn.BatchNorm2d(4)),
        ),
        (nn.Conv2d(3, 4, 3), with_method(used(nn.BatchNorm2d(4)), "forward", doubled)),
    ],
)
def test_other_batch_norms_are_not_folded(layers):
    section = section_of(*layers)
    folded = fold_batch_norm(section)
    x = torch.randn(3, 3, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), section(x), rtol=1e-5, atol=1e-5)
    assert len(norms(folded)) == 1


@pytest.mark.filterwarnings("ignore:Samples go through Sequential one at a time")
def test_norm_by_the_statistics_of_the_batch_stays():
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)
    assert len(norms(fold_batch_norm(section_of(*layers)))) == 1


def test_convolution_with_a_hook_is_not_plain():
    convolution = nn.Conv2d(3, 4, 1)
    assert is_plain_convolution(convolution)
    convolution.register_forward_pre_hook(lambda module, args: None)
    assert not is_plain_convolution(convolution)
    assert not is_plain_convolution(nn.Linear(3, 4))


@pytest.mark.parametrize("shape", [(8, 1, 3, 3), (4, 6, 5, 5), (4, 6, 1, 1), (4, 6, 3)])
def test_rounded_kernels_are_bfloat16_and_near(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    rounded = round_kernels(weight)
    assert torch.equal(rounded, rounded.bfloat16().float())
    # By its own rounding and by what the tap before it lost, one part in 256 each.
    largest = weight.abs().flatten(2).amax(2)
    moved = (rounded - weight).abs().flatten(2).amax(2)
    assert (moved <= 2.02 * largest / 256).all()


def test_sums_of_kernels_hardly_change():
    weight = torch.randn(512, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    weight -= weight.mean((2, 3), keepdim=True)  # edge detectors: sums of zero
    plain = weight.bfloat16().float().sum((2, 3)).square().mean().sqrt()
    kept = round_kernels(weight).sum((2, 3)).square().mean().sqrt()
    assert kept < plain / 8


def test_kernel_of_one_weight_is_rounded_to_the_nearest():
    weight = torch.randn(4, 6, 1, 1)
    assert torch.equal(round_kernels(weight), weight.bfloat16().float())


def test_halve_leaves_what_changes_its_weights():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), StdConv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)
    )
    assert halve(network) is network
    kinds = [layer.weight.dtype for layer in network]
    half, whole = torch.bfloat16, torch.float32
    assert kinds == [half, whole, whole, half]


def test_halve_leaves_what_is_shared_or_hooked():
    network = nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)))
    network[1].weight = network[0].weight
    network[2].register_forward_pre_hook(lambda module, args: None)
    kinds = [layer.weight.dtype for layer in halve(network)]
    assert kinds == [torch.float32] * 3 + [torch.bfloat16]
