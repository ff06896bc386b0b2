import io

import numpy as np
import pytest
from PIL import Image

from sktransfer.adaptation._image_statistics import STATISTICS, image_statistics
from sktransfer.adaptation._lab import to_lab
from sktransfer.adaptation._target_images import (
    measure,
    quantiles_of,
    some_images,
    thumbnails,
)
from tests.adaptation._photographs import CROPS, blurred, decoded, jpeg

QUALITY = STATISTICS.index("jpeg_quality")


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


def test_measure_is_what_is_measured_on_each():
    rows = measure(some_images(CROPS[:3], 3))
    expected = [[*image_statistics(crop).values()] for crop in CROPS[:3]]
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("quality", [99, 97, 40])
def test_quality_of_files_and_of_encoded_images_is_read_from_them(tmp_path, quality):
    content = jpeg(blurred(CROPS[0], 0.8), quality)
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    png = io.BytesIO()
    Image.fromarray(blurred(CROPS[0], 0.8)).save(png, "PNG")
    rows = measure(some_images([str(path), content, png.getvalue()], 5))
    assert rows[:, QUALITY].tolist() == [quality, quality, 100]


def test_quality_of_arrays_is_found_in_pixels():
    rows = measure(some_images([decoded(jpeg(blurred(CROPS[0], 0.8), 40))], 5))
    assert rows[0, QUALITY] == 40


def test_quantiles():
    (found,) = quantiles_of(some_images(CROPS[:1], 1))
    assert found.shape == (3, 33)
    lab = to_lab(CROPS[0])
    np.testing.assert_allclose(found[:, 0], lab.min(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(found[:, 16], np.median(lab, axis=(0, 1)), atol=1e-4)


def test_thumbnails_are_squares():
    found = thumbnails(some_images([CROPS[0][:100], CROPS[1]], 2), 16)
    assert found.shape == (2, 16, 16, 3) and found.dtype == np.uint8
    means = [CROPS[0][:100].mean(), CROPS[1].mean()]
    np.testing.assert_allclose(found.mean(axis=(1, 2, 3)), means, atol=2)
