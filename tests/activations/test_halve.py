import pytest
import torch
from timm.layers import StdConv2d
from torch import nn

from sktransfer.activations._halve import halve, round_kernels


@pytest.mark.parametrize("shape", [(8, 1, 3, 3), (4, 6, 5, 5), (4, 6, 1, 1), (4, 6, 3)])
def test_rounded_kernels_are_bfloat16_and_near(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    rounded = round_kernels(weight)
    assert torch.equal(rounded, rounded.bfloat16().float())
    # By its own rounding and by what the tap before it lost, one part in 256 each.
    largest = weight.abs().flatten(2).amax(2)
    moved = (rounded - weight).abs().flatten(2).amax(2)
    assert (moved <= 2.02 * largest / 256).all()


def test_sums_of_kernels_hardly_move():
    weight = torch.randn(512, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    weight -= weight.mean((2, 3), keepdim=True)  # edge detectors: sums of zero
    plain = weight.bfloat16().float().sum((2, 3)).square().mean().sqrt()
    kept = round_kernels(weight).sum((2, 3)).square().mean().sqrt()
    assert kept < plain / 8


def test_one_tap_is_rounded_to_the_nearest():
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
