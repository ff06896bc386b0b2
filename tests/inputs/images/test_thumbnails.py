import numpy as np
import pytest
from PIL import Image

from sktransfer.inputs.images._thumbnails import thumbnails


def test_thumbnails_are_rows_of_pixels():
    rows = thumbnails([Image.new("L", (40, 30), 100), np.full((8, 8), 200, np.uint8)])
    assert rows.shape == (2, 768)
    assert rows.dtype == np.uint8
    np.testing.assert_array_equal(rows[:, 0], [100, 200])


def test_thumbnails_heed_the_shape_and_the_value_range():
    rows = np.array([[0, 4, 8, 16]] * 2)
    found = thumbnails(rows, image_shape=(2, 2), value_range=(0, 16))
    assert found.max() == 255
    assert found.mean() == pytest.approx(255 * 7 / 16, abs=1)
