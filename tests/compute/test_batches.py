import pytest
import torch
from torch import nn

from sktransfer.compute import channels_last, halving, pad_rows, use_channels_last

CPU = torch.device("cpu")


class Small:
    """A memory for so many samples."""

    def __init__(self, room):
        self.room = room
        self.tried = []

    def __call__(self, size):
        self.tried.append(size)
        if size > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return f"{size} at a time"


def test_what_fits_is_computed_at_once():
    small = Small(8)
    assert halving(small, 8, CPU) == ("8 at a time", 8)
    assert small.tried == [8]


def test_sizes_are_halved_until_they_fit():
    small = Small(3)
    text = (
        "^The memory of cpu is too small for so many samples at a time: going on with "
        "[25]. `batch_size` sets it.$"
    )
    with pytest.warns(UserWarning, match=text) as caught:
        assert halving(small, 11, CPU) == ("2 at a time", 2)
    assert small.tried == [11, 5, 2]
    assert len(caught) == 2


@pytest.mark.filterwarnings("ignore:The memory of cpu")
def test_memory_too_small_for_one_sample():
    text = (
        "^The memory of cpu is too small for one sample. Go home. Take a smaller "
        "`image_size` or backbone, or device='cpu'.$"
    )
    with pytest.raises(MemoryError, match=text) as error:
        halving(Small(0), 4, CPU, "Go home. ")
    assert isinstance(error.value.__cause__, torch.OutOfMemoryError)


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


@pytest.mark.parametrize("shape", [(3,), (3, 4, 4)])
def test_pad_rows_appends_zeros(shape):
    z = torch.ones(2, *shape)
    padded = pad_rows(z, 4)
    assert torch.equal(padded[:2], z) and torch.equal(padded[2:], torch.zeros_like(z))
    assert pad_rows(z, 2) is z and pad_rows(z, 1) is z
