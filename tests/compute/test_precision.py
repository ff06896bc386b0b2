import pytest
import torch

from sktransfer.compute import _precision, gains_by_bfloat16, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "flag", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"]
)
def test_cpu_gains_if_it_has_either_instruction(monkeypatch, flag):
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    for name in names:
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert not gains_by_bfloat16(CPU)
    monkeypatch.setattr(torch.cpu, flag, lambda: True)
    assert gains_by_bfloat16(CPU)


@pytest.mark.parametrize(("capability", "gains"), [((7, 5), False), ((9, 0), True)])
def test_gpu_gains_since_ampere(monkeypatch, capability, gains):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert gains_by_bfloat16(torch.device("cuda")) is gains


def test_other_devices_do_not_gain():
    assert not gains_by_bfloat16(torch.device("mps"))


@pytest.mark.parametrize(("gains", "expected"), [(True, "bfloat16"), (False, "folded")])
def test_auto_goes_by_the_device(monkeypatch, gains, expected):
    monkeypatch.setattr(_precision, "gains_by_bfloat16", lambda device: gains)
    assert resolve_precision("auto", CPU) == expected
    assert resolve_precision("float32", CPU) == "float32"
