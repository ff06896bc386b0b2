"""Image files that several tests read."""

import pytest
from PIL import Image

NAMES = ("red", "green", "blue")


@pytest.fixture
def paths(tmp_path):
    """Return the paths of one red, one green and one blue image of 4 x 3 px."""
    paths = []
    for name in NAMES:
        paths.append(str(tmp_path / f"{name}.png"))
        Image.new("RGB", (4, 3), name).save(paths[-1])
    return paths


@pytest.fixture
def folder(tmp_path):
    """Return a folder with one folder per colour, of two images each."""
    for name in NAMES:
        (tmp_path / "folder" / name).mkdir(parents=True)
        for i in range(2):
            path = tmp_path / "folder" / name / f"{i}.png"
            Image.new("RGB", (5 + i, 3), name).save(path)
    return tmp_path / "folder"
