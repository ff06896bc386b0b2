"""Images inside of tar files, Parquet files and datasets of Hugging Face."""

import io
import tarfile

import numpy as np
import pandas as pd
from PIL import Image

from tests._bad_input import IMAGES, LABELS, encoded

FILES = [encoded(image) for image in IMAGES]


def write_tar(path, members):
    """Write a tar file of pairs (name, bytes)."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_shards(folder):
    """Write the images to two tar files, with their labels."""
    paths = []
    for first in (0, 5):
        members = []
        for i in range(first, min(first + 5, len(FILES))):
            members += [(f"{i:04d}.png", FILES[i]), (f"{i:04d}.json", b"{}")]
            members += [(f"{i:04d}.cls", b"%d\n" % LABELS[i])]
        paths.append(write_tar(folder / f"{first}.tar", members))
    return paths


def write_parquet(path, values=FILES, size=3):
    """Write the images, or other values, in row groups of this size."""
    pd.DataFrame({"image": values, "n": 0}).to_parquet(path, row_group_size=size)
    return path


class ImageFeature:
    """As `datasets.Image`: says whether images are decoded when they are read."""

    def __init__(self, decode=True):
        self.decode = decode


class HuggingFaceDataset:
    """As `datasets.Dataset`, of one column of images; counts what it reads."""

    def __init__(self, rows, feature=None):
        self.rows = rows
        self.features = {"image": feature or ImageFeature()}
        self.n_read = 0

    def __len__(self):
        return len(self.rows)

    def cast_column(self, column, feature):
        assert column == "image"
        return HuggingFaceDataset(self.rows, feature)

    def select_columns(self, columns):
        assert columns == ["image"]
        return self

    def __getitem__(self, key):
        if isinstance(key, str):
            return HuggingFaceColumn(self, key)
        self.n_read += 1
        value = {"bytes": self.rows[key], "path": None}
        if self.features["image"].decode:
            value = Image.open(io.BytesIO(value["bytes"]))
        return {"image": value}


class HuggingFaceColumn:
    """As `datasets.arrow_dataset.Column`."""

    def __init__(self, source, column_name):
        self.source = source
        self.column_name = column_name

    def __len__(self):
        return len(self.source)

    def __getitem__(self, i):
        return self.source[i][self.column_name]


def assert_equal(found, expected):
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
