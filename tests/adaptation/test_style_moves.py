import numpy as np
import pytest

from sktransfer.adaptation import image_statistics
from sktransfer.adaptation._image_statistics import STATISTICS
from sktransfer.adaptation._lab import to_lab
from sktransfer.adaptation._style_moves import (
    least_spoilt,
    moved,
    moves_between,
)
from sktransfer.adaptation._style_steps import turned
from tests.adaptation._photographs import CROPS, noisy, whole


def rows_of(images):
    return np.array([[*image_statistics(image).values()] for image in images])


SOURCE = rows_of(CROPS)
NAMES = [n for n in STATISTICS if n.endswith(("_mean", "_std", "side"))]


def own(image):
    return {name: image_statistics(image)[name] for name in NAMES}


def test_equal_domains_move_nothing():
    moves = moves_between(SOURCE, SOURCE)
    assert set(moves) == set(NAMES)
    for image in CROPS[:3]:
        found = moved(to_lab(image), moves)
        assert found == pytest.approx(own(image), abs=1e-3)


def test_images_go_where_those_like_them_are():
    change = [whole(0.5 * crop) for crop in CROPS]
    moves = moves_between(SOURCE, rows_of(change))
    for before, after in zip(CROPS[::4], change[::4], strict=True):
        found, expected = moved(to_lab(before), moves), own(after)
        for name in ("lightness_mean", "lightness_std"):
            assert found[name] == pytest.approx(expected[name], abs=3)


def test_light_that_becomes_dark_is_turned_first():
    negatives = rows_of([255 - crop for crop in CROPS])
    moves = moves_between(SOURCE, negatives, turned=True)
    found = moved(turned(to_lab(CROPS[0])), moves)
    expected = own(255 - CROPS[0])["lightness_mean"]
    assert found["lightness_mean"] == pytest.approx(expected, abs=5)


def test_standard_deviations_do_not_fall_below_zero():
    flat = rows_of([np.full_like(CROPS[0], 128)] * 3)
    moves = moves_between(SOURCE[:4], flat)
    found = moved(np.zeros((9, 9, 3)), moves)
    assert min(found[f"{c}_std"] for c in ("lightness", "green_red")) == 0


def test_what_nearly_all_images_have():
    few = rows_of([noisy(crop, 20) if i < 4 else crop for i, crop in enumerate(CROPS)])
    assert least_spoilt(few)["noise"] < 2
    assert least_spoilt(rows_of([noisy(c, 20) for c in CROPS]))["noise"] > 15
    assert set(least_spoilt(few)) == {"blur", "noise", "jpeg_quality"}


def test_images_that_are_equal_go_to_the_middle():
    same = np.repeat(SOURCE[:1], 6, axis=0)
    found = moved(to_lab(CROPS[0]), moves_between(same, SOURCE))["lightness_mean"]
    goals = SOURCE[:, STATISTICS.index("lightness_mean")]
    assert found == pytest.approx(np.quantile(goals, np.linspace(0, 1, 33)).mean())


def test_sizes_go_by_rank():
    small = [crop[:64, :64] for crop in CROPS[:6]]
    both = rows_of([*CROPS[6:12], *small])
    moves = moves_between(both, both)
    assert moved(to_lab(CROPS[0]), moves)["side"] == 192
    assert moved(to_lab(small[0]), moves)["side"] == 64
