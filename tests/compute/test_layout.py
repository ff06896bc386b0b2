import pytest
import torch
from torch import nn

from sktransfer.compute import channels_last, use_channels_last


def test_kernels_have_their_channels_last_and_the_same_values():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(4, 4, 3), nn.Linear(4, 2))
    before = [p.clone() for p in module.parameters()]
    assert use_channels_last(module) is module
    assert module[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not module[0].weight.is_contiguous()
    for parameter, values in zip(module.parameters(), before, strict=True):
        assert torch.equal(parameter, values)
    z = module[0](torch.rand(2, 3, 8, 8))
    assert z.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 7, 3), (4, 6)])
def test_maps_get_the_layout_of_their_kernels(shape):
    z = torch.randn(*shape).transpose(0, 1)
    laid = channels_last(z)
    torch.testing.assert_close(laid, z, rtol=0, atol=0)
    wanted = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    assert laid.is_contiguous(memory_format=wanted)
