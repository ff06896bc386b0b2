import numpy as np
import pytest
from torch import nn

from sktransfer.backbones import load_backbone
from sktransfer.training import resolve_freeze, stages_above

STAGES = ["stem", *(f"blocks.{i}" for i in range(7)), "conv_head"]


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("efficientnet_lite0")


def test_stages_are_those_of_these_tests(backbone):
    assert backbone.stage_names == STAGES


@pytest.mark.parametrize(
    ("freeze", "boundary"),
    [
        (0, "input"),
        (1, "stem"),
        (9, "conv_head"),
        (-1, "blocks.6"),
        (-9, "input"),
        (np.int64(3), "blocks.1"),
        (0.5, "blocks.2"),
        (np.float32(0.34), "blocks.1"),
        (0.999, "conv_head"),
        (0.001, "input"),
        ("blocks.4", "blocks.4"),
        ("blocks.4.1", "blocks.4.1"),
        ("all", "conv_head"),
        ("none", "input"),
    ],
)
def test_forms(backbone, freeze, boundary):
    assert resolve_freeze(freeze, backbone, 10) == boundary


@pytest.mark.parametrize(
    ("n_samples", "boundary"),
    [
        (1, "conv_head"),
        (99, "conv_head"),
        (100, "blocks.1"),
        (9_999, "blocks.1"),
        (10_000, "input"),
        (10**7, "input"),
    ],
)
def test_auto_goes_by_the_number_of_samples(backbone, n_samples, boundary):
    assert resolve_freeze("auto", backbone, n_samples) == boundary


@pytest.mark.parametrize("freeze", [10, -10, "blocks.9", "bloks.4", True, ""])
def test_unknown_boundary(backbone, freeze):
    with pytest.raises(ValueError, match="`freeze` must be one of") as info:
        resolve_freeze(freeze, backbone, 10)
    text = str(info.value)
    assert "['all', 'none', 'auto'], a share in (0, 1), an int in [-9, 9]" in text
    assert f"a stage or block of efficientnet_lite0: {STAGES}. Got {freeze!r}." in text


@pytest.mark.parametrize(
    ("freeze", "near"), [("bloks.4", "blocks.4"), ("al", "all"), ("atuo", "auto")]
)
def test_unknown_boundary_names_near_ones(backbone, freeze, near):
    with pytest.raises(ValueError, match=f"Did you mean .*'{near}'"):
        resolve_freeze(freeze, backbone, 10)


# How far each trained parameter is from the head


@pytest.mark.parametrize("n_frozen", range(10))
def test_stages_above_counts_from_the_last_stage(backbone, n_frozen):
    boundary = backbone.boundary(n_frozen)
    counts = stages_above(backbone, boundary)
    suffix = backbone.section(boundary, "conv_head")
    assert counts.keys() == {f"suffix.{n}" for n, _ in suffix.named_parameters()}
    for name, count in counts.items():
        assert name.removeprefix("suffix.").startswith(_module_of(STAGES[8 - count])), (
            name
        )
    assert {*counts.values()} == {*range(9 - n_frozen)}


def _module_of(stage):
    """Prefix of the names of a stage; the first and the last hold a norm, too."""
    return {"stem": ("conv_stem", "bn1"), "conv_head": ("conv_head", "bn2")}.get(
        stage, (stage,)
    )


def test_stages_above_a_block_inside_a_stage(backbone):
    counts = stages_above(backbone, "blocks.5.1")
    assert {n for n, c in counts.items() if c == 2} == {
        n for n in stages_above(backbone, "blocks.5.0") if ".5.2." in n or ".5.3." in n
    }
    assert {*counts.values()} == {0, 1, 2}
    assert not any(".5.0." in name or ".5.1." in name for name in counts)


class Twice(nn.Module):
    """One linear layer that two stages use."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.c = nn.Linear(4, 4)

    def forward(self, x):
        return self.c(self.a(self.b(self.a(x)).relu()).relu())


def test_shared_layer_counts_by_its_last_use():
    backbone = load_backbone(Twice(), random_state=0)
    assert backbone.stage_names == ["b", "c"]
    assert stages_above(backbone, "input") == {
        "suffix.b.weight": 1,
        "suffix.b.bias": 1,
        "suffix.a.weight": 0,
        "suffix.a.bias": 0,
        "suffix.c.weight": 0,
        "suffix.c.bias": 0,
    }
