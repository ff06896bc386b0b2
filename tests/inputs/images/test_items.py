"""Lists, arrays, data frames and other forms of X."""

import io
import os

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
from PIL import Image
from scipy import sparse
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader, TensorDataset

from sktransfer.inputs import ImagePreprocessing, UnreadableSampleError, as_samples
from sktransfer.inputs.images._datasets import Unreadable
from sktransfer.inputs.images._items import Values

PREPROCESSING = ImagePreprocessing((8, 8), 8, "bilinear", (0.5,) * 3, (0.5,) * 3)


COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}


def samples_of(X, **options):
    return as_samples(X, PREPROCESSING, **options)


def colours(samples):
    return [image.getpixel((0, 0)) for image in samples]


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_images_as_the_library_datasets_stores_them(paths):
    content = png(Image.new("RGB", (9, 9), "red"))
    X = [
        {"bytes": content, "path": "no/such/file.png"},
        {"bytes": None, "path": str(paths[1])},
    ]
    table = pyarrow.table({"image": X})
    for column in (X, pd.Series(X), table["image"], table.to_pandas()["image"]):
        found = colours(samples_of(column))
        assert found == [COLOURS["red"], *colours(samples_of(paths[1:2]))]


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        np.array,
        lambda paths: np.array(paths, dtype=object),
        lambda paths: np.array(paths)[:, None],
        lambda paths: np.array(paths, dtype=np.dtypes.StringDType()),
        lambda paths: [os.fspath(path) for path in paths],
        pd.Series,
        lambda paths: pd.Series(paths, dtype="string", index=[7, 7, 9]),
        lambda paths: pd.Series(paths, dtype="category"),
        lambda paths: pd.DataFrame({"path": paths}),
        pd.Index,
    ],
)
def test_paths(make, paths):
    samples = samples_of(make(paths))
    assert len(samples) == 3
    assert colours(samples) == list(COLOURS.values())
    assert samples.labels is None and samples.value_range is None
    assert samples.encoded(1) == paths[1]
    assert samples.describe(1) == f"sample 1 ({paths[1]!r})"


def test_pathlike_objects(tmp_path, paths):
    samples = samples_of([tmp_path / "blue.png", tmp_path / "red.png"])
    assert colours(samples) == [COLOURS["blue"], COLOURS["red"]]


def test_mix_of_kinds(paths):
    red = Image.new("RGB", (4, 3), "red")
    mix = [paths[2], red, png(red), np.full((2, 5, 3), (255, 0, 0), np.uint8)]
    samples = samples_of(mix)
    assert colours(samples) == [COLOURS["blue"]] + [COLOURS["red"]] * 3
    assert [image.size for image in samples] == [(4, 3)] * 3 + [(5, 2)]
    assert samples.value_range == (0, 255)
    frame = pd.DataFrame({"image": pd.Series(mix, dtype=object)})
    assert colours(samples_of(frame)) == colours(samples)


@pytest.mark.parametrize(
    "X", [[], (), np.zeros((0, 4, 4)), pd.Series([], dtype="string")]
)
def test_empty(X):
    with pytest.raises(ValueError, match="X must have at least 1 sample. Got 0"):
        samples_of(X)


def test_missing_file(paths):
    message = (
        r"sample 1 \('no/such.png'\), .*does not exist; relative paths start at '/"
    )
    with pytest.raises(ValueError, match=message):
        samples_of([paths[0], "no/such.png"])


def test_directory(paths, tmp_path):
    message = r"sample 1 \(.*\), .*it is a directory; .*image_folder"
    with pytest.raises(ValueError, match=message):
        samples_of([paths[0], tmp_path])


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_missing_value(missing, paths):
    message = r"Got sample 1, which is not; .*the value is missing \("
    with pytest.raises(ValueError, match=message):
        samples_of([paths[0], missing])
    with pytest.raises(ValueError, match=message):
        samples_of(pd.Series([paths[0], missing], dtype=object))


def test_missing_value_in_string_series(paths):
    for dtype in ("str", "string"):
        with pytest.raises(ValueError, match="the value is missing"):
            samples_of(pd.Series([paths[0], None], dtype=dtype))


def test_one_image_instead_of_many():
    photo = load_sample_images().images[0]
    message = r"looks like one colour image. Got shape \(427, 640, 3\); pass `X\[None\]"
    with pytest.raises(ValueError, match=message):
        samples_of(photo)
    assert len(samples_of(photo, image_shape=(640, 3))) == 427


@pytest.mark.parametrize(
    "X", [sparse.csr_matrix(np.eye(4)), sparse.coo_array(np.eye(4))]
)
def test_sparse(X):
    with pytest.raises(TypeError, match=r"dense. Got a sparse .*`X.toarray\(\)`"):
        samples_of(X, image_shape=(2, 2))


@pytest.mark.parametrize(
    "make", [iter, lambda X: (x for x in X), set, lambda X: dict.fromkeys(X), map]
)
def test_without_length_or_order(make, paths):
    X = map(str, paths) if make is map else make(paths)
    with pytest.raises(TypeError, match=r"length and an order: .*pass `list\(X\)`"):
        samples_of(X)


@pytest.mark.parametrize(
    "X", ["images", b"bytes", Image.new("RGB", (2, 2)), os.path.curdir]
)
def test_one_sample_instead_of_many(X):
    with pytest.raises(TypeError, match=r"X must be a collection .*`\[X\]`"):
        samples_of(X)


def test_sample_of_wrong_type(paths):
    with pytest.raises(
        TypeError, match=r"A sample must be .*Got 3 \(int\) as sample 1"
    ):
        samples_of([paths[0], 3])


@pytest.mark.parametrize(
    "row",
    [["a.png"], ("a.png",), [b"png"], [Image.new("L", (2, 2))], np.array(["a.png"])],
)
def test_list_of_lists_of_images(row):
    name = type(row[0]).__name__
    message = f"Got 1 of type {name} in a list as sample 0; pass one flat list, as by"
    with pytest.raises(TypeError, match=message):
        samples_of([row] * 2)


def test_open_files_are_read_from_their_beginning(paths):
    with open(paths[0], "rb") as file:
        for opened in (file, io.BytesIO(file.read())):
            for _ in range(2):
                images = [*samples_of([paths[0], opened])]
                assert images[0].tobytes() == images[1].tobytes()
    with open(paths[0], encoding="latin1") as file:
        with pytest.raises(TypeError, match="must be binary. Got str from sample 0; "):
            samples_of([file])


def test_data_loader():
    loader = DataLoader(TensorDataset(torch.zeros(2, 3, 4, 4)))
    with pytest.raises(TypeError, match="Got a DataLoader; pass its dataset, `X.datas"):
        samples_of(loader)


@pytest.mark.parametrize("image", ["a.png", np.zeros((2, 2)), Image.new("L", (2, 2))])
def test_pairs_in_list(image):
    with pytest.raises(TypeError, match="throughout. Got a pair as sample 1; pass the"):
        samples_of([image, (image, 1)])


def test_list_of_pairs_has_labels(paths):
    # What scikit-learn's splitters make of a dataset.
    pairs = list(zip(paths, ["a", "b", "c"], strict=True))
    samples = samples_of(pairs).take([2, 0])
    assert samples.labels.tolist() == ["c", "a"]
    assert samples.describe(0) == f"sample 2 ({paths[2]!r})"
    numbers = [(Image.new("L", (2, 2)), torch.tensor(i)) for i in range(2)]
    assert samples_of(numbers).labels.tolist() == [0, 1]


def test_nested_list_ragged():
    with pytest.raises(
        ValueError, match="Got sample 1, .*must have rows of one length"
    ):
        samples_of([[[1, 2], [3, 4]], [[1, 2], [3]]])


def test_frame_of_several_columns(paths):
    frame = pd.DataFrame({"path": paths, "label": [0, 1, 2]})
    message = r"one column of images.*Got str in an array of shape \(3, 2\); select"
    with pytest.raises(TypeError, match=message):
        samples_of(frame)


@pytest.mark.parametrize("X", [np.array(3.0), torch.tensor(3.0)])
def test_single_value(X):
    with pytest.raises(TypeError, match=r"Got a single value; pass a list, `\[X\]`"):
        samples_of(X)


@pytest.mark.parametrize("X", [None, 3])
def test_no_collection_has_no_list(X):
    with pytest.raises(TypeError, match=rf"Got {type(X).__name__}\.$"):
        samples_of(X)


def test_unreadable_may_wait_until_they_are_read(paths, tmp_path):
    bad = ["no.png", str(tmp_path), None, [[1, 2], [3]], np.zeros((2, 3, 5))]
    samples = samples_of([paths[0], *bad], on_error="warn")
    assert samples[0].getpixel((0, 0)) == COLOURS["red"]
    reasons = ["does not exist", "directory", "missing", "one length", "channels"]
    for row, reason in enumerate(reasons, 1):
        with pytest.raises(UnreadableSampleError, match=f"sample {row}.*{reason}"):
            samples[row]
    assert [samples.name(row) for row in range(6)] == [paths[0], *bad[:2], *[None] * 3]
    with pytest.raises(TypeError, match=r"Got 3 \(int\) as sample 0"):
        samples_of([3], on_error="warn")


DEEP = Image.fromarray(np.full((2, 3), 300, np.uint16))


GRAY = Image.new("L", (3, 2), 7)


def rows_of(values):
    blocks = [*values.blocks(), *values.read_blocks()]
    return {row: int(block.max()) for row, block in blocks}


def test_values_of_a_list_are_those_of_arrays_and_deep_images():
    items = [GRAY, DEEP, png(GRAY), png(DEEP), np.full((2, 2), 9, np.uint16)]
    values = Values(items)
    assert values.dtypes == {np.dtype(np.uint16)}
    assert rows_of(values) == {1: 300, 3: 300, 4: 9}
    part = Values(items, np.array([0, 4]))
    assert rows_of(part) == {1: 9}
    assert Values(items, np.array([0, 2])).dtypes == set()


def test_values_of_an_array_come_in_blocks(monkeypatch):
    monkeypatch.setattr("sktransfer.inputs.images._items.BLOCK", 8)
    X = np.arange(20).reshape(5, 2, 2)
    assert rows_of(Values(X)) == {0: 7, 2: 15, 4: 19}
    assert rows_of(Values(X, np.array([4, 0, 1]))) == {0: 19, 2: 7}


def test_values_that_cannot_be_read():
    items = [DEEP, Unreadable("gone"), png(DEEP)[:44]]
    assert rows_of(Values(items, on_error="warn")) == {0: 300}
    with pytest.raises(UnreadableSampleError, match="Got sample 2, which is not"):
        rows_of(Values(items))


def test_dtypes_of_arrays_that_are_no_images():
    with pytest.raises(ValueError, match="Complex data not supported: got dtype compl"):
        Values([np.zeros((2, 2), complex)])
    with pytest.raises(TypeError, match="must be real numbers or bool. Got dtype date"):
        Values(np.zeros((2, 2, 2), "M8[s]"))
