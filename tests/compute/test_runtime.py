import pytest
import torch

from sktransfer.compute import Runtime, pad_rows, synchronise


def test_the_key_leaves_out_what_changes_no_result():
    cpu = torch.device("cpu")
    assert Runtime(cpu, 8).key == Runtime(cpu, 32, verbose=1).key
    assert Runtime(cpu, 8).key != Runtime(cpu, 8, precision="bfloat16").key


def test_synchronise_does_nothing_on_a_cpu():
    assert synchronise(torch.device("cpu")) is None


@pytest.mark.parametrize("shape", [(3,), (3, 4, 4)])
def test_pad_rows_appends_zeros(shape):
    z = torch.ones(2, *shape)
    padded = pad_rows(z, 4)
    assert torch.equal(padded[:2], z) and torch.equal(padded[2:], torch.zeros_like(z))
    assert pad_rows(z, 2) is z and pad_rows(z, 1) is z
