import pytest
import torch

from sktransfer.compute import halving

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
