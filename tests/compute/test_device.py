import pytest
import torch

from sktransfer.compute import resolve_batch_size, resolve_device

CPU = torch.device("cpu")
MB = 2**20


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_prefers_a_gpu(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto") == torch.device(expected)


@pytest.mark.parametrize("device", ["cpu", CPU])
def test_device_by_name_or_itself(device):
    assert resolve_device(device) == CPU


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "xpu:99"])
def test_unknown_device(device):
    with pytest.raises(ValueError, match="`device` must be 'auto' or a device") as info:
        resolve_device(device)
    assert f"such as 'cpu'. Got {device!r}: " in str(info.value)


@pytest.mark.parametrize(
    ("sample_bytes", "size"),
    [(0, 16), (4, 16), (MB, 16), (2 * MB, 16), (5 * MB, 6), (100 * MB, 4)],
)
def test_auto_batch_size_keeps_activations_small(sample_bytes, size):
    assert resolve_batch_size("auto", CPU, sample_bytes) == size


def test_batch_size_on_a_gpu_or_given():
    assert resolve_batch_size("auto", torch.device("cuda"), 100 * MB) == 128
    assert resolve_batch_size(7, CPU, 100 * MB) == 7
