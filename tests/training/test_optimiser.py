import math

import pytest
import torch
from torch import nn

from sktransfer.training import Network
from sktransfer.training._optimiser import parameter_groups, warmup_cosine


@pytest.fixture
def network():
    suffix = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 2))
    suffix[2].requires_grad_(False)
    return Network(suffix, nn.Flatten(), nn.Linear(4, 2))


def group_of(groups, parameter):
    (group,) = [g for g in groups if any(p is parameter for p in g["params"])]
    return group["lr"], group["weight_decay"]


def test_groups_by_part_and_by_kind(network):
    groups = parameter_groups(
        network.named_parameters(), lr=0.1, backbone_lr_ratio=0.2, weight_decay=0.3
    )
    convolution, norm, _ = network.suffix
    assert group_of(groups, network.head.weight) == (0.1, 0.3)
    assert group_of(groups, network.head.bias) == (0.1, 0.0)
    assert group_of(groups, convolution.weight) == pytest.approx((0.02, 0.3))
    for parameter in (convolution.bias, norm.weight, norm.bias):
        assert group_of(groups, parameter) == pytest.approx((0.02, 0.0))


def test_groups_leave_frozen_parameters_out(network):
    groups = parameter_groups(
        network.named_parameters(), lr=0.1, backbone_lr_ratio=0.2, weight_decay=0.3
    )
    grouped = [id(p) for group in groups for p in group["params"]]
    trainable = [id(p) for p in network.parameters() if p.requires_grad]
    assert sorted(grouped) == sorted(trainable)
    torch.optim.AdamW(groups)


def test_schedule_rises_and_falls():
    factors = [warmup_cosine(step, n_steps=200) for step in range(200)]
    assert factors[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert factors[110] == pytest.approx(0.5)
    assert factors[199] == pytest.approx(0.5 * (1 + math.cos(math.pi * 179 / 180)))
    assert factors[20:] == sorted(factors[20:], reverse=True) and min(factors) > 0


def test_schedule_of_few_steps_rises_for_ten_or_half_of_them():
    factors = [warmup_cosine(step, n_steps=40) for step in range(40)]
    assert factors[:11] == pytest.approx([*(k / 10 for k in range(1, 11)), 1.0])
    factors = [warmup_cosine(step, n_steps=6) for step in range(6)]
    assert factors[:4] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])


def test_schedule_ends_at_zero():
    assert warmup_cosine(20, n_steps=20) == 0.0
    assert warmup_cosine(50, n_steps=20) == 0.0


def test_schedule_of_one_step():
    assert warmup_cosine(0, n_steps=1) == 1.0


def test_schedule_has_the_warmup_asked_for():
    factors = [warmup_cosine(step, n_steps=40, warmup=0.5) for step in range(20)]
    assert factors == pytest.approx([(step + 1) / 20 for step in range(20)])
