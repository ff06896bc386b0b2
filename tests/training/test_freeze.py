import numpy as np
import pytest

from sktransfer.backbones import load_backbone
from sktransfer.training import resolve_freeze

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
        (499, "conv_head"),
        (500, "blocks.4"),
        (1_999, "blocks.4"),
        (2_000, "blocks.1"),
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
