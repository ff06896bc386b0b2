"""Layouts of array samples."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits, load_sample_images

from sktransfer.inputs import ImagePreprocessing, as_samples

PREPROCESSING = ImagePreprocessing((8, 8), 8, "bilinear", (0.5,) * 3, (0.5,) * 3)


def samples_of(X, **options):
    return as_samples(X, PREPROCESSING, **options)


def pixels(image):
    assert image.mode == "RGB"
    return np.asarray(image)


def colours(samples):
    return [image.getpixel((0, 0)) for image in samples]


def test_array_layouts():
    photo = load_sample_images().images[0][::8, ::8]  # (54, 80, 3)
    h, w, _ = photo.shape
    nhwc = np.stack([photo, photo[::-1]])
    nchw = nhwc.transpose(0, 3, 1, 2)
    for X, image_shape in [
        (nhwc, None),
        (nchw, None),
        (torch.tensor(nchw), None),
        (nhwc, (h, w)),
        (nchw, (3, h, w)),
        (nchw, (h, w, 3)),
        (nhwc.reshape(2, -1), (h, w, 3)),
        (nchw.reshape(2, -1), [3, h, w]),
        (list(nhwc), None),
        ([nhwc[0], nchw[1]], None),
        (list(torch.tensor(nchw)), None),
        (list(nhwc.reshape(2, -1)), (h, w, 3)),
        (nhwc.tolist(), None),
        (pd.DataFrame(nhwc.reshape(2, -1)), (h, w, 3)),
        (nhwc.reshape(2, -1).astype(object), (h, w, 3)),
        (np.asfortranarray(nhwc), None),
        (nhwc.astype(">i4"), None),
    ]:
        samples = samples_of(X, image_shape=image_shape)
        for i in range(2):
            np.testing.assert_array_equal(pixels(samples[i]), nhwc[i])


def test_gray_layouts():
    gray = load_digits().images[:3].astype(np.uint8) * 15  # (3, 8, 8)
    for X, image_shape in [
        (gray, None),
        (gray[..., None], None),
        (gray[:, None], None),
        (gray.reshape(3, -1), (8, 8)),
        (gray.reshape(3, -1), (8, 8, 1)),
        (gray.reshape(3, -1), (1, 8, 8)),
    ]:
        samples = samples_of(X, image_shape=image_shape)
        for i, channel in [(0, 0), (1, 1), (2, 2)]:
            np.testing.assert_array_equal(pixels(samples[i])[..., channel], gray[i])


def test_rgba_is_laid_over_white():
    X = np.array([[255, 0, 0, 51], [0, 0, 0, 0]], np.uint8).reshape(2, 1, 1, 4)
    assert colours(samples_of(X)) == [(255, 204, 204), (255, 255, 255)]
    assert colours(samples_of(X / 255)) == [(255, 204, 204), (255, 255, 255)]


def test_both_ends_may_be_channels_takes_last():
    X = np.zeros((1, 3, 5, 3), np.uint8)
    assert samples_of(X)[0].size == (5, 3)


def test_lists_of_mixed_sizes():
    X = [np.full((2, 3), 7, np.uint8), np.full((5, 4, 3), 8, np.uint8)]
    samples = samples_of(X)
    assert [image.size for image in samples] == [(3, 2), (4, 5)]
    assert colours(samples) == [(7, 7, 7), (8, 8, 8)]


def test_tensors_of_other_kinds():
    X = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 1, 4, 5)
    for tensor in (X.bfloat16(), X.half(), X.clone().requires_grad_()):
        assert colours(samples_of(tensor)) == [(0, 0, 0), (255, 255, 255)]


def test_memmap_is_not_copied(tmp_path):
    path = tmp_path / "X.npy"
    np.save(path, np.full((3, 4, 5, 3), 9, np.uint8))
    X = np.load(path, mmap_mode="r")
    samples = samples_of(X)
    assert np.shares_memory(samples._items, X)
    assert colours(samples) == [(9, 9, 9)] * 3


@pytest.mark.parametrize("shape", [(3,), (2, 1, 4, 4, 3)])
def test_wrong_number_of_dimensions(shape):
    message = rf"must have 2 .* dimensions. Got {len(shape)}, shape"
    with pytest.raises(ValueError, match=message):
        samples_of(np.zeros(shape))
    if len(shape) == 5:
        with pytest.raises(ValueError, match="Got sample 0, .*The array of one image"):
            samples_of(list(np.zeros(shape)))


@pytest.mark.parametrize("shape", [(2, 8, 8, 2), (2, 8, 8, 5), (2, 2, 8, 8)])
def test_wrong_number_of_channels(shape):
    message = "must have 1, 3 or 4 channels in its last axis, or 1 or 3 in its first"
    with pytest.raises(ValueError, match=message):
        samples_of(np.zeros(shape))
    with pytest.raises(ValueError, match=f"Got sample 0, .*{message}"):
        samples_of(list(np.zeros(shape)))


def test_no_pixels():
    with pytest.raises(ValueError, match=r"at least one pixel. Got shape \(0, 5\)"):
        samples_of(np.zeros((2, 0, 5)))


def test_flat_rows_without_image_shape():
    message = r"Flat rows of 64 values need `image_shape`.*`image_shape=\(8, 8\)`"
    with pytest.raises(ValueError, match=message):
        samples_of(load_digits().data)
    with pytest.raises(ValueError, match=r"`image_shape=\(h, w\)`"):
        samples_of(np.zeros((2, 63)))


def test_flat_rows_of_other_width():
    message = r"must have 63 values .*\(7, 9\). Got 64 values\.$"
    with pytest.raises(ValueError, match=message):
        samples_of(load_digits().data, image_shape=(7, 9))
    message = r"Got 192 values. For colour .* \(8, 8, 3\) or \(3, 8, 8\)"
    with pytest.raises(ValueError, match=message):
        samples_of(np.zeros((2, 192)), image_shape=(8, 8))


def test_arrays_that_disagree_with_image_shape():
    message = r"agree with `image_shape`=\(8, 9\). Got shape \(8, 8\)"
    with pytest.raises(ValueError, match=message):
        samples_of(load_digits().images, image_shape=(8, 9))


@pytest.mark.parametrize(
    "image_shape", [8, (8,), (8, 8, 2), (2, 8, 8), (0, 8), "8x8", (8.0, 8)]
)
def test_image_shape_invalid(image_shape):
    with pytest.raises(ValueError, match=r"`image_shape` must be \(h, w\), .*Got"):
        samples_of(load_digits().data, image_shape=image_shape)


def test_sparse_tensor():
    with pytest.raises(TypeError, match=r"dense. .*sparse_coo; pass `X.to_dense\(\)`"):
        samples_of(torch.eye(4).to_sparse(), image_shape=(2, 2))


def test_tensor_without_values():
    with pytest.raises(
        TypeError, match="must have values. Got .* device 'meta', which"
    ):
        samples_of(torch.zeros(2, 4, 4, device="meta"))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensor():
    X = torch.nested.nested_tensor([torch.zeros(3, 8, 8), torch.zeros(3, 9, 8)])
    with pytest.raises(TypeError, match=r"Got a nested tensor; pass `list\(X.unbind"):
        samples_of(X)
    assert len(samples_of(list(X.unbind()))) == 2


def test_half_floats_have_room_for_their_range():
    X = np.array([0, 256, 60_000], np.float16).reshape(3, 1, 1)
    samples = samples_of(X)
    assert samples.value_range == (0, 65535)
    assert [red for red, _, _ in colours(samples)] == [0, 1, 233]
    X = torch.ones(2, 4, 4).to(torch.float8_e5m2)
    assert colours(samples_of(X)) == [(255, 255, 255)] * 2
