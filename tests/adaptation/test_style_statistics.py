import io

import numpy as np
import pytest
from PIL import Image

from sktransfer.adaptation._image_statistics import STATISTICS, image_statistics, to_lab
from sktransfer.adaptation._style_statistics import (
    measure,
    moved,
    moves_between,
    some_images,
    typical_quality,
)
from sktransfer.adaptation._style_steps import swap_lightness
from tests.adaptation._photographs import CROPS, blurred, jpeg, noisy, whole


def rows_of(images):
    return np.array([[*image_statistics(image).values()] for image in images])


SOURCE = rows_of(CROPS)
NAMES = [n for n in STATISTICS if n.endswith(("_mean", "_std", "side"))]


def own(image):
    return {name: image_statistics(image)[name] for name in NAMES}


def test_some_images_are_evenly_spread():
    images = 20 * np.arange(11, dtype=np.uint8)[:, None, None] * np.ones((1, 5, 5))
    taken = some_images(images.astype(np.uint8), 6)
    found = [np.asarray(taken[i])[0, 0, 0] for i in range(len(taken))]
    assert found == [0, 40, 80, 120, 160, 200]
    assert len(some_images(images, 40, value_range=(0, 255))) == 11


def test_rows_with_a_shape_are_images():
    rows = np.full((3, 64), 8.0)
    taken = some_images(rows, 5, image_shape=(8, 8), value_range=(0, 16))
    assert measure(taken)[:, 0] == pytest.approx(128 / 255, abs=0.01)


def test_measure_is_what_is_measured_on_each(tmp_path):
    np.testing.assert_array_equal(measure(some_images(CROPS[:3], 3)), SOURCE[:3])
    content = jpeg(blurred(CROPS[0], 0.8), 40)
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    png = io.BytesIO()
    Image.fromarray(CROPS[0]).save(png, "PNG")
    rows = measure(some_images([str(path), content, png.getvalue()], 5))
    assert rows[:, STATISTICS.index("jpeg_quality")].tolist() == [40, 40, 100]


def test_equal_domains_move_nothing():
    moves = moves_between(SOURCE, SOURCE)
    assert set(moves) == set(NAMES)
    for image in CROPS[:3]:
        assert moved(to_lab(image), moves) == pytest.approx(own(image), abs=1e-3)


def test_images_move_to_the_same_quantile_of_the_target():
    change = [whole(0.5 * crop) for crop in CROPS]
    moves = moves_between(SOURCE, rows_of(change))
    for before, after in zip(CROPS[::4], change[::4], strict=True):
        found, expected = moved(to_lab(before), moves), own(after)
        for name in ("lightness_mean", "lightness_std"):
            assert found[name] == pytest.approx(expected[name], abs=3)


def test_swapped_images_are_swapped_before_they_are_compared():
    negatives = rows_of([255 - crop for crop in CROPS])
    moves = moves_between(SOURCE, negatives, swapped=True)
    found = moved(swap_lightness(to_lab(CROPS[0])), moves)
    expected = own(255 - CROPS[0])["lightness_mean"]
    assert found["lightness_mean"] == pytest.approx(expected, abs=5)


def test_standard_deviations_do_not_fall_below_zero():
    flat = rows_of([np.full_like(CROPS[0], 128)] * 3)
    found = moved(np.zeros((9, 9, 3)), moves_between(SOURCE[:4], flat))
    assert min(found[f"{c}_std"] for c in ("lightness", "green_red")) == 0


def test_typical_quality_is_a_quartile():
    few = rows_of([noisy(crop, 20) if i < 4 else crop for i, crop in enumerate(CROPS)])
    assert typical_quality(few)["noise"] < 2
    assert typical_quality(rows_of([noisy(c, 20) for c in CROPS]))["noise"] > 15
    assert set(typical_quality(few)) == {"blur", "noise", "jpeg_quality"}


def test_equal_images_move_to_the_mean_of_the_target():
    same = np.repeat(SOURCE[:1], 6, axis=0)
    found = moved(to_lab(CROPS[0]), moves_between(same, SOURCE))["lightness_mean"]
    goals = SOURCE[:, STATISTICS.index("lightness_mean")]
    expected = np.quantile(goals, np.linspace(0, 1, 33)).mean()
    assert found == pytest.approx(expected, rel=1e-4)


def test_sizes_are_mapped_by_quantiles():
    small = [crop[:64, :64] for crop in CROPS[:6]]
    both = rows_of([*CROPS[6:12], *small])
    moves = moves_between(both, both)
    assert moved(to_lab(CROPS[0]), moves)["side"] == 192
    assert moved(to_lab(small[0]), moves)["side"] == 64
