import re
from itertools import product

import pytest
from torch import nn

from sktransfer.backbones import load_backbone
from sktransfer.training import (
    LEVELS,
    LITERATURE,
    MEASURED,
    choose_level,
    stages_above,
    unfreezing_phases,
)

STAGES = ["stem", *(f"blocks.{i}" for i in range(7)), "conv_head"]


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("efficientnet_lite0", image_size=64)


def test_stages_are_those_of_these_tests(backbone):
    assert backbone.stage_names == STAGES


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


@pytest.mark.parametrize(
    ("n", "level"), [(2, 3), (99, 3), (100, 1), (9_999, 1), (10_000, 0)]
)
def test_by_size(n, level):
    assert choose_level(n) == (level, f"{n:,} samples")


@pytest.mark.parametrize(
    ("n", "level"), [(499, 3), (500, 2), (1_999, 2), (2_000, 1), (10_000, 0)]
)
def test_by_size_as_in_the_literature(n, level):
    assert choose_level(n, rules=LITERATURE)[0] == level


@pytest.mark.parametrize(
    ("n", "similarity", "level"),
    [
        (1_000, 0.1, 0),
        (200, 0.1, 1),
        (1_000, 0.5, 1),
        (1_000, 0.9, 2),
        (50, 0.1, 1),
        (50, 0.5, 1),
        (50, 0.65, 3),
        (50, 0.9, 3),
        (20_000, 0.1, 0),
    ],
)
def test_a_different_domain_freezes_less_and_a_similar_one_more(n, similarity, level):
    found, why = choose_level(n, similarity=similarity)
    assert found == level
    assert ("domain" in why) == ((n, similarity) != (1_000, 0.5))


@pytest.mark.parametrize(
    ("n", "probes", "level", "why"),
    [
        (1_000, (0.99, 0.99, 0.01), 3, "a probe of the last stage scores 0.990"),
        (1_000, (0.8, 0.9, 0.01), 0, "an earlier stage scores 0.100 more"),
        (200, (0.8, 0.9, 0.01), 1, "an earlier stage scores 0.100 more"),
        (20_000, (0.8, 0.9, 0.01), 0, "an earlier stage scores 0.100 more"),
        (1_000, (0.8, 0.81, 0.01), 1, "no stage is clearly better than the last"),
        (50, (0.6, 0.9, 0.05), 3, "50 samples of a similar domain: 0.80"),
    ],
)
def test_probes_go_before_the_domain(n, probes, level, why):
    found, said = choose_level(n, similarity=0.8, probes=probes)
    assert found == level
    assert said.endswith(why)


def test_probes_decide_for_few_samples_of_an_unknown_domain():
    assert choose_level(50, probes=(0.6, 0.9, 0.05))[0] == 1
    assert choose_level(50, probes=(0.6, 0.65, 0.05))[0] == 3


def test_few_samples_of_a_domain_that_is_not_similar_are_trained_on():
    level, why = choose_level(60, similarity=0.4, probes=(0.6, 0.65, 0.05))
    assert level == 1
    assert why == "60 samples, but the domain is no similar one: 0.40"


def test_levels_go_from_nothing_frozen_to_all():
    shares = [level.share for level in LEVELS]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1


def test_rules_of_the_literature_freeze_no_less_for_fewer_samples():
    levels = [
        choose_level(n, similarity=0.5, probes=(0.6, 0.6, 0.1), rules=LITERATURE)[0]
        for n in (100, 499, 500, 1_999, 2_000, 9_999, 10_000)
    ]
    assert levels == [3, 3, 2, 2, 1, 1, 0]


def test_every_level_exists():
    for n, similarity, probes, rules in product(
        [20, 150, 450, 1_000, 50_000],
        [0.1, 0.65, 0.9],
        [None, (0.5, 0.9, 0.01), (0.5, 0.5, 0.1)],
        [LITERATURE, MEASURED],
    ):
        level, why = choose_level(n, similarity=similarity, probes=probes, rules=rules)
        assert 0 <= level < len(LEVELS) and why


DOWN = STAGES[::-1]  # the order in which boundaries move


def plan(backbone, boundary, every, max_epochs, head_first=True):
    return unfreezing_phases(
        backbone, boundary, every=every, max_epochs=max_epochs, head_first=head_first
    )


def test_without_unfreezing_there_is_one_phase(backbone):
    assert plan(backbone, "blocks.4", None, 7) == [("blocks.4", 7)]
    assert plan(backbone, "input", None, 1, head_first=False) == [("input", 1)]


def test_boundary_moves_down_a_stage_a_phase(backbone):
    assert plan(backbone, "blocks.5", 2, 10) == [
        ("conv_head", 2),
        ("blocks.6", 2),
        ("blocks.5", 6),
    ]


def test_probed_head_is_not_trained_alone(backbone):
    phases = plan(backbone, "blocks.5", 2, 10, head_first=False)
    assert phases == [("blocks.6", 2), ("blocks.5", 8)]


@pytest.mark.parametrize("head_first", [True, False])
def test_down_to_the_input(backbone, head_first):
    boundaries = [*DOWN, "input"][0 if head_first else 1 :]
    n = len(boundaries)
    phases = plan(backbone, "input", 1, 12, head_first)
    assert [name for name, _ in phases] == boundaries
    assert [epochs for _, epochs in phases] == [1] * (n - 1) + [12 - (n - 1)]


def test_boundary_inside_a_stage_comes_last(backbone):
    phases = plan(backbone, "blocks.5.1", 3, 12)
    assert phases == [
        ("conv_head", 3),
        ("blocks.6", 3),
        ("blocks.5", 3),
        ("blocks.5.1", 3),
    ]


@pytest.mark.parametrize("head_first", [True, False])
@pytest.mark.parametrize("boundary", ["conv_head", "features"])
def test_head_alone_is_one_phase(backbone, boundary, head_first):
    assert plan(backbone, boundary, 2, 5, head_first) == [(boundary, 5)]


def test_last_stage_alone_with_a_probed_head_is_one_phase(backbone):
    assert plan(backbone, "blocks.6", 2, 5, head_first=False) == [("blocks.6", 5)]


@pytest.mark.parametrize("head_first", [True, False])
def test_phases_have_all_epochs(backbone, head_first):
    for every, boundary in product([1, 2, 3, 5], ["input", "blocks.1", "blocks.4.1"]):
        phases = plan(backbone, boundary, every, 60, head_first)
        assert sum(epochs for _, epochs in phases) == 60
        assert {epochs for _, epochs in phases[:-1]} == {every}
        assert phases[-1][0] == boundary


def test_as_many_epochs_as_it_takes(backbone):
    assert plan(backbone, "blocks.5", 2, 5)[-1] == ("blocks.5", 1)


@pytest.mark.parametrize(
    ("max_epochs", "phases"),
    [
        (4, [("conv_head", 2), ("blocks.6", 2)]),
        (3, [("conv_head", 2), ("blocks.6", 1)]),
        (2, [("conv_head", 2)]),
        (1, [("conv_head", 1)]),
    ],
)
def test_too_few_epochs_to_thaw_all(backbone, max_epochs, phases):
    message = (
        f"`max_epochs={max_epochs}` ends before all stages are thawed: with "
        "`unfreeze_every=2` that takes 5 epochs. The stages up to "
        f"'{phases[-1][0]}' stay as they are."
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        assert plan(backbone, "blocks.5", 2, max_epochs) == phases
