import numpy as np
import pytest
from PIL import Image

from sktransfer.inputs import image_folder


@pytest.fixture
def folder(tmp_path):
    for label, names in {"b": "1 2 deep/3", "a": "4 5", ".hidden": "6"}.items():
        for name in names.split():
            path = tmp_path / label / f"{name}.PNG"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(path, "PNG")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / ".7.png").write_text("hidden")
    (tmp_path / "8.png").write_text("of no class")
    return tmp_path


def test_paths_and_labels_in_random_order(folder):
    paths, labels = image_folder(folder)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*.PNG")}
    found.remove(".hidden/6.PNG")
    assert {path.removeprefix(f"{folder}/") for path in paths} == found
    assert all(f"/{label}/" in path for path, label in zip(paths, labels, strict=True))
    orders = [image_folder(str(folder), random_state=i)[0].tolist() for i in range(5)]
    assert paths.tolist() == orders[0] and len({*map(tuple, orders)}) > 2
    assert np.unique(labels).tolist() == ["a", "b"]


def test_folders_without_images_of_classes(tmp_path):
    with pytest.raises(ValueError, match="^`path` must be a folder. Got '.*/x', which"):
        image_folder(tmp_path / "x")
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    with pytest.raises(ValueError, match="must hold a subfolder of images for each"):
        image_folder(tmp_path)
