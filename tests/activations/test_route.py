from itertools import pairwise

import pytest

from sktransfer.activations._route import Route
from sktransfer.backbones import load_backbone
from tests.activations.conftest import PREPROCESSING, small_network

CHAIN = ["input", "0", "1", "2", "3"]


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(small_network(), preprocessing=PREPROCESSING)


def test_stages_are_passed_one_by_one(backbone):
    route = Route(backbone, ["3"])
    assert route.chain == CHAIN
    assert route.steps("input") == list(pairwise(CHAIN))
    assert route.steps("2") == [("2", "3")]
    assert route.steps("3") == []
    assert route.starts == CHAIN[::-1]


def test_only_what_is_needed_is_computed(backbone):
    assert Route(backbone, ["1"]).chain == CHAIN[:3]
    assert Route(backbone, ["input"]).steps("input") == []


def test_all_that_is_wanted_follows_the_first_start(backbone):
    route = Route(backbone, ["3", "1"])
    assert route.wanted == ["1", "3"]
    assert route.starts == ["1", "0", "input"]
    assert route.steps("1") == [("1", "2"), ("2", "3")]


def test_nothing_goes_on_from_inside_a_stage(backbone):
    inside = "2.1"
    assert inside in backbone.boundaries
    route = Route(backbone, [inside, "3"])
    assert route.starts == ["1", "0", "input"]
    assert route.steps("1") == [("1", "2"), ("2", "3"), ("1", inside)]


def test_a_boundary_after_the_last_stage_comes_from_its_end(backbone):
    route = Route(backbone, ["features"])
    assert route.steps("3") == [("3", "features")]
    assert route.starts == ["features", *CHAIN[::-1]]
    assert route.steps("features") == []
