"""Images of columns of Parquet files and of datasets of Hugging Face."""

import re
import weakref

import fsspec
import numpy as np
import pandas as pd
import pytest

from sktransfer import PretrainedFeatureExtractor
from sktransfer.inputs import image_column
from sktransfer.inputs.images._columns import ParquetImages
from tests._bad_input import encoded, make_backbone
from tests._stored import FILES, HuggingFaceDataset, ImageFeature, write_parquet


def contents(images):
    return [image.read() for image in images]


def test_parquet_files_in_their_order(tmp_path):
    paths = [write_parquet(tmp_path / f"{name}.parquet") for name in "ab"]
    images = image_column(iter(paths), "image")
    assert contents(images) == FILES * 2
    assert images[8].name == f"{tmp_path}/b.parquet, row 0"
    assert repr(images[7]) == f"StoredImage('{tmp_path}/a.parquet, row 7')"
    assert contents(image_column(str(paths[0]), "image")) == FILES


def test_parquet_of_a_url():
    table = pd.DataFrame({"image": FILES})
    with fsspec.open("memory://folder/x.parquet", "wb") as file:
        table.to_parquet(file)
    assert contents(image_column("memory://folder/x.parquet", "image")) == FILES


def test_images_as_the_library_datasets_stores_them(tmp_path):
    (tmp_path / "1.png").write_bytes(FILES[1])
    values = [
        {"bytes": FILES[0], "path": "0.png"},
        {"bytes": None, "path": str(tmp_path / "1.png")},
    ]
    images = image_column(write_parquet(tmp_path / "x.parquet", values), "image")
    assert contents(images) == FILES[:2]


def test_few_row_groups_are_in_memory_and_each_is_read_in_turn(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (800, 5, 5, 3), np.uint8)
    path = write_parquet(tmp_path / "x.parquet", [*map(encoded, noise)], size=40)
    read_group, read, living = ParquetImages._read_group, [], []

    def counted(self, number, group):
        found = read_group(self, number, group)
        read.append((group, weakref.ref(found)))
        living.append(sum(seen() is not None for _, seen in read))
        return found

    monkeypatch.setattr(ParquetImages, "_read_group", counted)
    images = image_column(path, "image")
    assert not read
    extractor = PretrainedFeatureExtractor(make_backbone()).fit(images[:1])
    read.clear()
    extractor.transform(images)
    assert {group for group, _ in read} == {*range(20)} and len(read) <= 2 * 20 + 1
    assert max(living) <= 5  # four hold 128 images


@pytest.mark.parametrize("decode", [True, False])
def test_datasets_are_read_when_they_are_indexed(decode):
    dataset = HuggingFaceDataset(FILES, ImageFeature(decode))
    images = image_column(dataset, "image")
    assert contents(images[[3, 1]]) == [FILES[3], FILES[1]]
    assert images[3].name == "row 3 of the dataset"
    assert dataset.n_read == (0 if decode else 2)  # of a copy that does not decode


def test_column_of_a_dataset_is_read_one_image_at_a_time():
    dataset = HuggingFaceDataset(FILES, ImageFeature(decode=False))
    extractor = PretrainedFeatureExtractor(make_backbone()).fit(dataset["image"])
    dataset.n_read = 0
    extractor.transform(dataset["image"])
    assert dataset.n_read <= 2 * len(FILES) + 1


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("picture", "must be one of the columns of '{path}', ['image', 'n', 'text']."),
        ("n", "must hold encoded images, of type binary. Got 'n' of type int64 in '"),
        ("text", "must hold encoded images, of type binary. Got 'text' of type "),
    ],
)
def test_columns_that_hold_no_images(column, message, tmp_path):
    path = str(tmp_path / "x.parquet")
    pd.DataFrame({"image": FILES, "n": 0, "text": "a"}).to_parquet(path)
    with pytest.raises(ValueError, match=re.escape(message.format(path=path))):
        image_column(path, column)


def test_tables_that_are_none(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"Dear all, this is a text.")
    with pytest.raises(ValueError, match="x.parquet' is no Parquet file: "):
        image_column(path, "image")
    with pytest.raises(ValueError, match=r"columns of the dataset, \['image'\]. Got "):
        image_column(HuggingFaceDataset(FILES), "picture")

    class Streamed:
        features = {"image": ImageFeature()}

    with pytest.raises(TypeError, match="must have a length. Got Streamed; load it "):
        image_column(Streamed(), "image")


def test_values_that_are_no_images():
    images = image_column(HuggingFaceDataset([None, "a.png"]), "image")
    with pytest.raises(ValueError, match=r"^the value is missing \(None\)$"):
        images[0].read()
    with pytest.raises(TypeError, match=r"^it is of type str, not bytes$"):
        images[1].read()
