import io

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.training import Network
from sktransfer.training._optimiser import parameter_groups

SETTINGS = {"lr": 0.1, "backbone_lr_ratio": 0.2, "weight_decay": 0.3}


@pytest.fixture
def network():
    suffix = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(2, 2))
    suffix[2].requires_grad_(False)
    return Network(suffix, nn.Flatten(), nn.Linear(4, 2))


def group_of(groups, parameter):
    (group,) = [g for g in groups if any(p is parameter for p in g["params"])]
    return group["lr"], group["weight_decay"]


def parameter(*shape):
    return nn.Parameter(torch.zeros(shape))


def test_groups_by_part_and_by_kind(network):
    groups = parameter_groups(network.named_parameters(), **SETTINGS)
    convolution, norm, _ = network.suffix
    assert group_of(groups, network.head.weight) == (0.1, 0.3)
    assert group_of(groups, network.head.bias) == (0.1, 0.0)
    assert group_of(groups, convolution.weight) == pytest.approx((0.02, 0.3))
    for p in (convolution.bias, norm.weight, norm.bias):
        assert group_of(groups, p) == pytest.approx((0.02, 0.0))


def test_groups_leave_frozen_parameters_out(network):
    groups = parameter_groups(network.named_parameters(), **SETTINGS)
    grouped = [id(p) for group in groups for p in group["params"]]
    trainable = [id(p) for p in network.parameters() if p.requires_grad]
    assert sorted(grouped) == sorted(trainable)
    torch.optim.AdamW(groups)


def test_groups_come_in_the_order_of_the_parameters(network):
    groups = parameter_groups(network.named_parameters(), **SETTINGS)
    rates = [group["lr"] for group in groups]
    assert rates == pytest.approx([0.02, 0.02, 0.1, 0.1])
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0, 0.3, 0.0]
    convolution, norm, _ = network.suffix
    expected = [convolution.bias, norm.weight, norm.bias]
    assert all(a is b for a, b in zip(groups[1]["params"], expected, strict=True))


def test_rates_fall_by_stage():
    names = ["suffix.a.w", "suffix.b.w", "suffix.c.w", "suffix.norm.w", "head.weight"]
    stages_above = {"suffix.a.w": 2, "suffix.b.w": 1, "suffix.c.w": 0}
    named = [(name, parameter(2, 2)) for name in names]
    groups = parameter_groups(
        named, **SETTINGS, layer_decay=0.5, stages_above=stages_above
    )
    rates = [group_of(groups, p)[0] for _, p in named]
    assert rates == pytest.approx([0.005, 0.01, 0.02, 0.02, 0.1])


@pytest.mark.parametrize("ratio", [0.0, 0.2, 1.0])
def test_objective_learns_five_times_as_fast_as_the_head(ratio):
    settings = {**SETTINGS, "backbone_lr_ratio": ratio}
    named = [("objective.function.w", parameter(2, 2))]
    (group,) = parameter_groups(named, **settings, layer_decay=0.5)
    assert group["lr"] == pytest.approx(5 * 0.1)


def test_head_has_its_rate_at_any_place():
    head = parameter(2, 2)
    (group,) = parameter_groups(
        [("head.w", head)], **SETTINGS, layer_decay=0.5, stages_above={"head.w": 3}
    )
    assert group["lr"] == 0.1


@pytest.mark.parametrize("stages_above", [None, {}])
def test_no_stages_are_the_last_stage(network, stages_above):
    named = list(network.named_parameters())
    groups = parameter_groups(
        named, **SETTINGS, layer_decay=0.5, stages_above=stages_above
    )
    assert groups == parameter_groups(named, **SETTINGS)


@pytest.mark.parametrize(
    ("name", "shape", "decayed"),
    [
        ("suffix.cls_token", (1, 1, 4), False),
        ("suffix.encoder.pos_embedding", (1, 5, 4), False),
        ("suffix.stages.0.attn.relative_position_bias_table", (9, 2), False),
        ("suffix.stages.0.layer_scale", (4, 1, 1), False),
        ("suffix.pos_embed.proj.weight", (4, 4), True),
        ("suffix.blocks.0.attn.qkv.weight", (12, 4), True),
        ("suffix.norm.weight", (4,), False),
        ("suffix.scale", (), False),
        ("head.weight", (1, 4), True),
    ],
)
def test_weights_decay_but_for_norms_biases_and_embeddings(name, shape, decayed):
    (group,) = parameter_groups([(name, parameter(*shape))], **SETTINGS)
    assert group["weight_decay"] == (0.3 if decayed else 0.0)


def test_rates_of_numpy_become_floats():
    settings = {name: np.float64(value) for name, value in SETTINGS.items()}
    optimizer = torch.optim.AdamW(
        parameter_groups([("head.weight", parameter(2, 2))], **settings)
    )
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    (group,) = torch.load(file, weights_only=True)["param_groups"]
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.3)
