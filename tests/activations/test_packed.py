import copy

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from sktransfer.activations import _packed
from sktransfer.activations._fold import fold_batch_norm, halve
from sktransfer.activations._packed import (
    PackedConvolution,
    can_pack,
    pack_convolutions,
    stays_finite,
)
from sktransfer.backbones import load_backbone
from sktransfer.inputs import ImagePreprocessing

PREPROCESSING = ImagePreprocessing(size=(14, 14), mean=(0, 0, 0), std=(1, 1, 1))
needs_packing = pytest.mark.skipif(
    not can_pack(torch.float32), reason="this PyTorch has no oneDNN"
)


def section_of(*layers):
    torch.manual_seed(0)
    backbone = load_backbone(nn.Sequential(*layers), preprocessing=PREPROCESSING)
    return backbone.frozen_section("input", "output")


def run(network, x):
    is_half = any(p.dtype == torch.bfloat16 for p in network.parameters())
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=is_half)
    with torch.inference_mode(), autocast:
        return network(x.contiguous(memory_format=torch.channels_last))


def n_packed(network):
    return sum(isinstance(layer, PackedConvolution) for layer in network.modules())


LAYERS = [
    nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
    nn.BatchNorm2d(8),
    nn.ReLU6(),
    Conv2dSame(8, 8, 3, stride=2, groups=8),
    nn.ReLU(),
    nn.Conv2d(8, 4, 3, padding=2, dilation=2),
]


@needs_packing
@pytest.mark.parametrize("may_clip", [False, True])
def test_packed_in_bfloat16_equals_the_layers_alone_and_in_batches(may_clip):
    plain = halve(fold_batch_norm(section_of(*LAYERS)))
    packed = pack_convolutions(copy.deepcopy(plain), may_clip=may_clip)
    assert n_packed(packed) == 3
    n_clips = sum(isinstance(m, nn.ReLU | nn.ReLU6) for m in packed.modules())
    assert n_clips == (0 if may_clip else 2)
    x = torch.randn(5, 3, 14, 14)
    autocast = torch.autocast("cpu", torch.bfloat16)
    with torch.inference_mode(), autocast:
        wanted, found = plain(x), packed(x)
        assert torch.equal(found, wanted)
        assert torch.equal(packed(x[:1]), plain(x[:1]))


@needs_packing
def test_packed_in_float32_is_near_and_shares_a_copy():
    plain = fold_batch_norm(section_of(*LAYERS))
    packed = pack_convolutions(copy.deepcopy(plain), may_clip=True)
    x = torch.randn(5, 3, 14, 14)
    torch.testing.assert_close(run(packed, x), run(plain, x), rtol=1e-4, atol=1e-5)
    twin = copy.deepcopy(packed)
    layers = [m for m in packed.modules() if isinstance(m, PackedConvolution)]
    assert len(layers) == 3 and {*layers} <= {*twin.modules()}
    assert "hardtanh" in repr(packed)


@needs_packing
def test_nan_is_kept_unless_the_clip_is_packed():
    plain = fold_batch_norm(section_of(nn.Conv2d(3, 4, 1), nn.ReLU()))
    x = torch.full((1, 3, 14, 14), float("nan"))
    packed = pack_convolutions(copy.deepcopy(plain), may_clip=False)
    assert run(packed, x).isnan().all() and run(plain, x).isnan().all()


class Reads(nn.Module):
    """Reads the kernels of its layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.layer(x) + self.layer.weight.sum()


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(3, 3, 3, padding="same"),),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"),),
        (Reads(),),
        [nn.Conv2d(3, 3, 1)] * 2,
        (nn.Flatten(2), nn.Conv1d(3, 4, 1)),
    ],
)
def test_what_cannot_be_packed_stays(layers):
    shared = layers if isinstance(layers, tuple) else [layers[0], layers[0]]
    plain = fold_batch_norm(section_of(*shared))
    packed = pack_convolutions(plain, may_clip=True)
    assert n_packed(packed) == 0


def test_networks_without_a_graph_stay():
    network = nn.Sequential(nn.Conv2d(3, 4, 1))
    assert pack_convolutions(network, may_clip=True) is network
    assert n_packed(network) == 0 and not stays_finite(network)


class Root(nn.Module):
    """Computes NaN from negative numbers."""

    def forward(self, x):
        return x.sqrt()


class Log(nn.Module):
    """Computes NaN from negative numbers, by a function."""

    def forward(self, x):
        return torch.log(x)


class Scaled(nn.Module):
    """Has a tensor of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x + self.scale


@pytest.mark.parametrize("last", [Root(), Log(), Scaled(), nn.Softmax(1)])
def test_only_usual_layers_stay_finite(last):
    assert stays_finite(section_of(*LAYERS))
    assert not stays_finite(section_of(*LAYERS, last))


def test_layers_with_hooks_do_not_count():
    layer = nn.ReLU()
    layer.register_forward_hook(lambda module, args, out: out.log())
    assert not stays_finite(section_of(nn.Conv2d(3, 4, 1), layer))


def test_pytorch_without_the_functions_is_noticed(monkeypatch):
    monkeypatch.delattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    can_pack.cache_clear()
    assert not can_pack(torch.float32)
    plain = fold_batch_norm(section_of(*LAYERS))
    assert n_packed(pack_convolutions(plain, may_clip=True)) == 0
    can_pack.cache_clear()


def test_pytorch_that_computes_something_else_is_noticed(monkeypatch):
    monkeypatch.setitem(_packed._CLIPS, nn.ReLU6, ("none", [], ""))
    can_pack.cache_clear()
    assert not can_pack(torch.float32)
    can_pack.cache_clear()
