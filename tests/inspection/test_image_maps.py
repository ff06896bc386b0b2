import numpy as np
import pytest
import torch
from PIL import Image

from sktransfer.inputs import ImagePreprocessing, as_samples
from sktransfer.inspection._image_maps import to_image


@pytest.mark.parametrize("size", [(120, 80), (64, 200), (80, 80), (9, 7)])
@pytest.mark.parametrize("resize", [80, (64, 64), 64, 48])
def test_a_spot_is_found_where_it_was_in_the_image(size, resize):
    preprocessing = ImagePreprocessing((64, 64), resize)
    h, w = size
    at = (h // 2, w // 2)
    pixels = np.zeros((h, w, 3), np.uint8)
    side = max(1, min(size) // 8)
    pixels[at[0] : at[0] + side, at[1] : at[1] + side] = 255
    seen = preprocessing.prepare(Image.fromarray(pixels))[..., 0]
    values, box = to_image(torch.tensor(seen.astype(np.float32)), preprocessing, size)
    assert values.shape == size
    middle = np.array(at) + (side - 1) / 2
    rows, columns = np.indices(size)
    found = [(values * place).sum() / values.sum() for place in (rows, columns)]
    np.testing.assert_allclose(found, middle, atol=1)
    outside = np.ones(size, bool)
    outside[box[0] : box[2], box[1] : box[3]] = False
    assert not values[outside].any()


def test_box_is_what_the_crop_keeps():
    whole = torch.ones(4, 4)
    preprocessing = ImagePreprocessing((64, 64), 80)
    values, box = to_image(whole, preprocessing, (160, 320))
    assert box == (16, 96, 144, 224)  # the 64 of 80 and of 160 px in the middle, twice
    assert values.sum() == 128 * 128
    _, box = to_image(whole, ImagePreprocessing((64, 64)), (10, 300))
    assert box == (0, 0, 10, 300)
    values, box = to_image(whole, ImagePreprocessing((64, 64), 32), (32, 32))
    assert box == (0, 0, 32, 32)  # the margin of the model input is no image
    assert (values == 1).all()


def test_orientation_of_files_is_applied(tmp_path):
    image = Image.new("RGB", (40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "turned.jpg", exif=exif)
    samples = as_samples([str(tmp_path / "turned.jpg")], ImagePreprocessing())
    size = samples[0].height, samples[0].width
    assert size == (40, 20)
    assert to_image(torch.ones(7, 7), ImagePreprocessing(), size)[0].shape == size
