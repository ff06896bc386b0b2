import torch

from sktransfer.compute import Runtime, synchronise


def test_the_key_leaves_out_what_changes_no_result():
    cpu = torch.device("cpu")
    assert Runtime(cpu, 8).key == Runtime(cpu, 32, verbose=1).key
    assert Runtime(cpu, 8).key != Runtime(cpu, 8, precision="float32").key


def test_synchronise_does_nothing_on_a_cpu():
    assert synchronise(torch.device("cpu")) is None
