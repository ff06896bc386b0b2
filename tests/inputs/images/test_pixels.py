"""Layouts of array samples."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from torch.utils.data import Dataset

from sktransfer.inputs import ImagePreprocessing, UnreadableSampleError, as_samples

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
    samples = samples_of(X, value_range=(0, 65535))
    assert [red for red, _, _ in colours(samples)] == [0, 1, 233]
    X = torch.ones(2, 4, 4).to(torch.float8_e5m2)
    assert colours(samples_of(X)) == [(255, 255, 255)] * 2


COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}


@pytest.mark.parametrize(
    ("values", "dtype", "value_range", "expected"),
    [
        ([0, 16, 255], np.uint8, (0, 255), [0, 16, 255]),
        ([0, 4, 16], np.uint8, (0, 255), [0, 4, 16]),
        ([0, 1, 1], bool, (0, 1), [0, 255, 255]),
        ([0, 257, 65535], np.uint16, (0, 65535), [0, 1, 255]),
        ([0, 0.5, 1], np.float32, (0, 1), [0, 128, 255]),
        ([0, 0.2, 0.3], np.float64, (0, 1), [0, 51, 76]),
        ([0, 0.5, 1], np.float16, (0, 1), [0, 128, 255]),
        ([0, 1, 1], np.int64, (0, 255), [0, 1, 1]),
        ([0, 8, 9], np.int8, (0, 255), [0, 8, 9]),
        ([3, 5, 200], np.int64, (0, 255), [3, 5, 200]),
        ([0, 77, 255], ">i4", (0, 255), [0, 77, 255]),
    ],
)
def test_value_range_auto(values, dtype, value_range, expected):
    X = np.array(values, dtype).reshape(3, 1, 1)
    for same in (X, list(X), torch.from_numpy(X) if X.dtype.isnative else X):
        samples = samples_of(same)
        assert samples.value_range == value_range
        assert [red for red, _, _ in colours(samples)] == expected
    assert samples_of(X, value_range=None).value_range == value_range


def test_value_range_of_digits():
    images = load_digits().images
    message = r"\(0, 1\) for dtype float64, .* from 0 to 16, the first outside in "
    message += r"sample 0; pass `value_range=\(0, 16\)`, or"
    with pytest.raises(ValueError, match=message):
        samples_of(images)
    samples = samples_of(images, value_range=(0, 16))
    expected = np.rint(images[5] * 255 / 16)
    np.testing.assert_array_equal(pixels(samples[5])[..., 0], expected)


def test_value_range_is_that_of_all_samples():
    X = np.array([0, 1, 200]).reshape(3, 1, 1)
    assert colours(samples_of(X)) == [(0,) * 3, (1,) * 3, (200,) * 3]
    assert colours(samples_of(X[:2])) == [(0,) * 3, (1,) * 3]
    with pytest.raises(ValueError, match=r"from 0 to 200, .*sample 1; .*=\(0, 255\)`"):
        samples_of(X.astype(float)[[0, 2, 1]])


@pytest.mark.parametrize(
    ("value_range", "dtype", "expected"),
    [((-1, 1), np.float64, 191), ((0, 2), np.uint8, 128), ([0, 255], np.uint8, 1)],
)
def test_value_range_given(value_range, dtype, expected):
    X = np.ones((1, 2, 2), dtype) * dtype(0.5 if dtype == np.float64 else 1)
    samples = samples_of(X, value_range=value_range)
    assert samples.value_range == tuple(value_range)
    assert colours(samples) == [(expected,) * 3]


def test_value_range_given_does_not_apply_to_bool_and_8_bit_images(paths):
    X = [np.ones((2, 2), bool), paths[0], np.full((2, 2), 51, np.uint8)]
    for value_range in ("auto", (0, 255)):
        read = colours(samples_of(X, value_range=value_range))
        assert read == [(255, 255, 255), COLOURS["red"], (51, 51, 51)]


@pytest.mark.parametrize("value_range", ["0-1", (0,), (1, 0), (0, np.inf), 255])
def test_value_range_invalid(value_range):
    with pytest.raises(ValueError, match="`value_range` must be 'auto' or a pair"):
        samples_of(np.zeros((2, 4, 4)), value_range=value_range)


def test_values_that_are_not_normalised_already():
    X = np.linspace(0, 1, 4 * 9).reshape(4, 3, 3)
    for overshoot in (1.02 * X - 0.01, 1.01 * X, X - 0.05):
        with pytest.raises(ValueError, match=r"If they overshoot, .* `X.clip\(0, 1\)`"):
            samples_of(overshoot)
    with pytest.raises(ValueError, match=r"; pass `value_range=\(0, 255\)`"):
        samples_of(255 * X)
    with pytest.raises(ValueError, match=r"-3 to 257.*; clip .* `X.clip\(0, 255\)`"):
        samples_of(260 * X - 3)


@pytest.mark.parametrize("low", [-2.1, 0.0])
def test_value_range_normalised_already(low):
    X = np.linspace(low, 2.6, 4 * 9).reshape(4, 3, 3)
    message = (
        r"look normalised already.*Got values from .* to 2\.6, .*\. Undo.*value_range"
    )
    with pytest.raises(ValueError, match=message):
        samples_of(X)


@pytest.mark.parametrize(
    ("dtype", "high", "likely"),
    [
        (float, 2, 2),
        (float, 18, 255),
        (float, 254.5, 255),
        (float, 300.5, 301),
        (int, 256, 256),
        (int, 4095, 4095),
        (np.float32, 9000, 65535),
        (int, 70_000, 70_000),
    ],
)
def test_value_range_that_the_error_proposes(dtype, high, likely):
    X = np.array([0, high, high / 2]).astype(dtype).reshape(3, 1, 1)
    message = rf"the first outside in sample 1; pass `value_range=\(0, {likely}\)`"
    for same in (X, list(X)):
        with pytest.raises(ValueError, match=message):
            samples_of(same)
    assert samples_of(X, value_range=(0, likely)).value_range == (0, likely)


def test_files_out_of_range_are_found_before_or_when_they_are_read():
    images = [Image.new("I", (2, 2), value) for value in (200, 9000, 3)]
    files = [encoded(image, "TIFF") for image in images]
    with pytest.raises(
        ValueError, match="from 3 to 9000, the first outside in sample 1"
    ):
        samples_of(images)
    with pytest.raises(ValueError, match="from 9000 to 9000, the first .* in sample 0"):
        samples_of(files[1:])
    samples = samples_of(files)  # the first is neither dark nor out of range
    message = (
        r"sample 1, .* image with values from 9000 to 9000; .*such as \(0, 65535\)"
    )
    with pytest.raises(UnreadableSampleError, match=message):
        samples[1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("value_range", ["auto", (0, 1)])
def test_value_not_finite_names_first_row(bad, value_range):
    X = np.zeros((9, 2, 2))
    X[6, 1, 1] = X[4, 0, 1] = bad
    for same in (X, list(X), X.reshape(9, 4)):
        with pytest.raises(ValueError, match=r"NaN or infinity. Got one in sample 4;"):
            samples_of(same, value_range=value_range, image_shape=(2, 2))


def test_value_not_finite_in_later_block(monkeypatch):
    monkeypatch.setattr("sktransfer.inputs.images._items.BLOCK", 8)
    X = np.zeros((9, 2, 2))
    X[7] = np.nan
    with pytest.raises(ValueError, match="Got one in sample 7;"):
        samples_of(X)


def test_value_outside_names_first_row():
    X = np.zeros((5, 2, 2))
    X[3, 0, 0] = 1.5
    with pytest.raises(
        ValueError, match=r"`value_range`=\(0, 1\). Got 1.5 in sample 3"
    ):
        samples_of(X, value_range=(0, 1))
    with pytest.raises(ValueError, match="Got 200 in sample 1"):
        samples_of(np.array([[[9]], [[200]]], np.uint8), value_range=(0, 16))


def test_value_changed_after_check_is_refused():
    X = np.zeros((2, 3, 3))
    samples = samples_of(X)
    X[1] = np.nan
    with pytest.raises(ValueError, match=r"sample 1, which is not.*must be finite"):
        samples[1]


def test_value_range_ignores_bool():
    X = [np.ones((2, 2), bool), np.full((2, 2), 0.5)]
    samples = samples_of(X)
    assert samples.value_range == (0, 1)
    assert colours(samples) == [(255, 255, 255), (128, 128, 128)]


def test_value_range_of_mixed_dtypes():
    X = [np.zeros((2, 2), np.uint8), np.zeros((2, 2))]
    with pytest.raises(ValueError, match=r"cannot be decided .*\['float64', 'uint8'\]"):
        samples_of(X)
    assert colours(samples_of(X, value_range=(0, 255))) == [(0, 0, 0)] * 2
    alike = [np.full((2, 2), 9, dtype) for dtype in (np.uint8, np.int64)]
    assert colours(samples_of(alike)) == [(9, 9, 9)] * 2


def test_dtype_not_real():
    with pytest.raises(ValueError, match="Complex data not supported: got dtype compl"):
        samples_of(np.zeros((2, 4, 4), complex))


def test_fractions_in_a_wide_range_warn():
    X = np.linspace(0, 1, 12).reshape(3, 2, 2)
    message = r"is \(0, 255\), but .* between 0 and 1: .*black.*`value_range=\(0, 1\)`"
    for same in (X, list(X)):
        with pytest.warns(UserWarning, match=message):
            samples_of(same, value_range=(0, 255))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("X", [np.zeros((2, 3, 3)), np.full((2, 3, 3), 7.5)])
def test_dark_images_do_not_warn(X):
    assert samples_of(X, value_range=(0, 255)).value_range == (0, 255)


@pytest.mark.parametrize("value_range", ["auto", (0, 1)])
def test_unreadable_values_may_wait_until_they_are_read(value_range):
    X = np.full((5, 2, 2), 1.0)
    X[1, 0, 0], X[3, 1, 1] = np.nan, np.inf
    for same in (X, list(X)):
        samples = samples_of(same, value_range=value_range, on_error="warn")
        assert samples.value_range == (0, 1)
        assert colours(samples.take([0, 2, 4])) == [(255, 255, 255)] * 3
        for row in (1, 3):
            with pytest.raises(ValueError, match=f"sample {row}, .*must be finite"):
                samples[row]


@pytest.mark.parametrize(
    ("dtype", "highest"),
    [(np.uint8, 16), (np.uint8, 1), (np.uint16, 4095), (np.int64, 16), (float, 0.0035)],
)
def test_whole_numbers_that_use_little_of_their_dtype_warn(dtype, highest):
    X = np.zeros((3, 8, 8), dtype)
    X[:, 2:4] = highest
    text = f"no value is above {highest}: .*black.*`value_range=\\(0, {highest}\\)`"
    with pytest.warns(UserWarning, match=text):
        samples_of(X)


@pytest.mark.filterwarnings("error")
def test_black_images_and_masks_do_not_warn():
    samples_of(np.zeros((2, 9, 9), np.uint8))
    samples_of(np.full((2, 9, 9), 9, np.uint8))
    samples_of(np.ones((2, 9, 9), bool))
    samples_of(np.full((2, 9, 9), 16, np.uint8), value_range=(0, 255))
    samples_of(np.full((2, 2, 2), 16, np.uint8))  # too few to say


class Items(Dataset):
    """A dataset of given images, that counts its reads."""

    def __init__(self, items):
        self.items, self.n_reads = items, 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        self.n_reads += 1
        return self.items[i]


def test_dark_images_warn_in_every_container():
    X = np.zeros((3, 8, 8), np.uint16)
    X[:, 2:4] = 4095
    pictures = [Image.fromarray(x) for x in X]
    for same in (list(X), pictures, [*map(png, pictures)], Items(pictures)):
        with pytest.warns(UserWarning, match="0 to 65535, but no value is above 4"):
            assert samples_of(same).value_range == (0, 65535)
    dataset = Items([np.full((9, 9), 5000, np.uint16)] * 3)
    samples_of(dataset)
    assert dataset.n_reads == 2  # the first item says that nothing is dark


def encoded(image, format):
    buffer = io.BytesIO()
    image.save(buffer, format)
    return buffer.getvalue()


def png(image):
    return encoded(image, "PNG")


def test_deep_images_share_one_range_with_arrays():
    X = [Image.new("I", (2, 2), value) for value in (0, 8, 200)]
    X[1] = np.full((2, 2), 8, np.int32)
    samples = samples_of(X)
    assert samples.value_range == samples_of(X[:2]).value_range == (0, 255)
    assert colours(samples_of(X, value_range=(0, 300)))[1:] == [(7,) * 3, (170,) * 3]
    with pytest.raises(ValueError, match=r"=\(0, 16\). Got 200 in sample 2"):
        samples_of(X, value_range=(0, 16))


def test_8_bit_images_are_unchanged_beside_deep_ones():
    X = [Image.new("L", (2, 2), 51), Image.new("I;16", (2, 2), 51)]
    assert colours(samples_of(X, value_range=(0, 255))) == [(51,) * 3] * 2
    assert colours(samples_of(X, value_range=(0, 51))) == [(51,) * 3, (255,) * 3]


def test_items_of_a_dataset_of_another_kind_than_the_first():
    gray, deep = Image.new("L", (2, 2)), Image.new("F", (2, 2), 0.5)
    mixed = [np.zeros((2, 2), np.uint8), deep]
    message = (
        r"sample 1.*dtype float32, whose range is \(0, 1\), beside others in \(0, 25"
    )
    with pytest.raises(UnreadableSampleError, match=message):
        samples_of(Items(mixed))[1]
    for items in (mixed, [gray, deep]):
        assert colours(samples_of(Items(items), value_range=(0, 1)))[1] == (128,) * 3
    assert colours(samples_of(Items([gray, deep])))[1] == (128,) * 3
    wide = Items([gray, Image.new("I;16", (2, 2), 257)])
    assert colours(samples_of(wide))[1] == (1, 1, 1)  # its dtype says the range


def test_fractions_in_a_wide_range_warn_in_a_dataset():
    X = np.linspace(0, 1, 12).reshape(3, 2, 2)
    with pytest.warns(UserWarning, match="between 0 and 1: all images will be nearly"):
        samples_of(Items(list(X)), value_range=(0, 255))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("value_range", [(0, 1), (-1, 1), (0, 255), (-1000, 3000)])
def test_rounding_at_both_ends_of_a_range(dtype, value_range):
    low, high = np.array(value_range, dtype)
    slack = np.finfo(dtype).eps * max(abs(low), high)
    X = np.array([low - slack, high + slack]).reshape(2, 1, 1).astype(dtype)
    for same in (X, X.astype(np.float64)) if dtype == np.float32 else (X,):
        samples = samples_of(same, value_range=value_range)
        assert colours(samples) == [(0, 0, 0), (255, 255, 255)]
    if value_range == (0, 1):
        assert samples_of(X).value_range == value_range
    with pytest.raises(ValueError, match="Values must be within"):
        samples_of(X + (high - low) / 9, value_range=value_range)


def test_values_just_outside_are_written_with_all_digits():
    X = np.full((1, 2, 2), 1.000001)
    X[0, 0] = 0.5
    with pytest.raises(ValueError, match=r"Got 1\.00000099\d+ in sample 0"):
        samples_of(X, value_range=(0, 1))
    with pytest.raises(ValueError, match=r"from 0.5 to 1\.00000099\d+, the.*clip"):
        samples_of(X)
