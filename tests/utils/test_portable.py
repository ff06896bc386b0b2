import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sktransfer.utils import on_cpu


def test_module_on_the_cpu_is_returned_as_it_is():
    module = nn.Sequential(nn.Linear(3, 2), nn.LazyLinear(2))
    assert on_cpu(module) is module


def test_module_elsewhere_is_copied_and_left_alone():
    with FakeTensorMode():
        layer = nn.LayerNorm(2, device="cuda").requires_grad_(False)
        module = nn.Sequential(layer, nn.BatchNorm1d(2), layer)
        module[1].scale = torch.ones(2, device="cuda")
        copied = on_cpu(module)
        for tensor in (*copied.parameters(), *copied.buffers(), copied[1].scale):
            assert tensor.device.type == "cpu"
        assert layer.weight.device.type == "cuda"
        assert module[1].scale.device.type == "cuda"
    assert copied[0] is copied[2]
    assert copied[1].weight is module[1].weight
    flags = [p.requires_grad for p in copied.parameters()]
    assert flags == [p.requires_grad for p in module.parameters()]
    assert flags == [False, False, True, True]
