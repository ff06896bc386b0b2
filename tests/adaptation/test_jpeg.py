import io

import numpy as np
import pytest
from PIL import Image

from sktransfer.adaptation._jpeg import compress, quality_of_pixels, quality_of_tables
from sktransfer.adaptation._lab import luma_of
from tests.adaptation._photographs import CROPS, blurred, decoded, jpeg, noisy

SOFT = [blurred(crop, 0.8) for crop in CROPS[::3]]  # the files' own traces are gone
QUALITIES = [10, 15, 30, 49, 50, 60, 72, 80, 90, 95]


@pytest.mark.parametrize("quality", [1, 5, *QUALITIES, 100])
def test_quality_is_read_from_tables(quality):
    with Image.open(io.BytesIO(jpeg(CROPS[0], quality))) as image:
        assert quality_of_tables(image.quantization) == quality


def test_quality_of_the_tables_of_other_encoders_is_the_nearest():
    with Image.open(io.BytesIO(jpeg(CROPS[0], 70))) as image:
        table = np.array(image.quantization[0])
    assert quality_of_tables({0: np.maximum(1, table + 1)}) == pytest.approx(70, abs=4)


@pytest.mark.parametrize("quality", QUALITIES)
def test_quality_is_found_in_pixels_within_one(quality):
    found = [quality_of_pixels(luma_of(decoded(jpeg(c, quality)))) for c in SOFT]
    np.testing.assert_allclose(found, quality, atol=1)


@pytest.mark.parametrize("change", ["none", "noise", "resize"])
def test_without_traces_the_quality_is_100(change):
    for crop in SOFT:
        if change == "noise":
            crop = noisy(decoded(jpeg(crop, 80)), 6)
        if change == "resize":
            image = Image.fromarray(decoded(jpeg(crop, 50)))
            crop = np.asarray(image.resize((150, 150), Image.Resampling.BICUBIC))
        assert quality_of_pixels(luma_of(crop)) == 100


@pytest.mark.parametrize("shape", [(1, 1), (7, 20), (8, 8), (40, 40)])
def test_tiny_and_flat_images_have_no_traces(shape):
    assert quality_of_pixels(np.full(shape, 30.0)) == 100


def test_compress_is_what_a_file_of_that_quality_holds():
    np.testing.assert_array_equal(compress(CROPS[0], 40), decoded(jpeg(CROPS[0], 40)))
