import pytest
import torch

from sktransfer.compute import Runtime, pad_rows, synchronise

CPU = torch.device("cpu")


def test_the_key_leaves_out_what_changes_no_result():
    assert Runtime(CPU, 8).key == Runtime(CPU, 8, verbose=1).key


@pytest.mark.parametrize(
    "other",
    [
        Runtime(torch.device("mps"), 8),
        Runtime(CPU, 9),
        Runtime(CPU, 8, "bfloat16"),
        Runtime(CPU, 8, activation_dtype="float32"),
    ],
    ids=["device", "batch_size", "precision", "activation_dtype"],
)
def test_the_key_holds_what_changes_a_result(other):
    assert Runtime(CPU, 8).key != other.key


def test_the_key_holds_switches_of_torch():
    before = Runtime(CPU, 8).key
    torch._C._set_mkldnn_enabled(False)
    changed = Runtime(CPU, 8).key
    torch._C._set_mkldnn_enabled(True)
    assert changed != before
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    changed = Runtime(CPU, 8).key
    torch.set_float32_matmul_precision(precision)
    assert changed != before == Runtime(CPU, 8).key


def test_synchronise_does_nothing_on_a_cpu():
    assert synchronise(torch.device("cpu")) is None


@pytest.mark.parametrize("shape", [(3,), (3, 4, 4)])
def test_pad_rows_appends_zeros(shape):
    z = torch.ones(2, *shape)
    padded = pad_rows(z, 4)
    assert torch.equal(padded[:2], z) and torch.equal(padded[2:], torch.zeros_like(z))
    assert pad_rows(z, 2) is z and pad_rows(z, 1) is z
