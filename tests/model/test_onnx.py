import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from sktransfer.inputs import ImagePreprocessing, VectorPreprocessing
from sktransfer.model import ExportedModule, _onnx
from sktransfer.model._onnx import check_path, write_onnx

ROWS = VectorPreprocessing(4)
IMAGES = ImagePreprocessing((9, 8), 10, "bilinear", (0.5,) * 3, (0.2,) * 3)


def make_module(*parts, preprocessing=ROWS, **settings):
    torch.manual_seed(0)
    parts = parts or (nn.Linear(4, 3), nn.Softmax(1))
    return ExportedModule(preprocessing, parts, "probabilities", **settings)


class Fails(nn.Module):
    def forward(self, z):
        if z.sum() > 0:
            return z
        return -z


class Drops(nn.Module):
    """Gives something else in ONNX, as its output depends on who asks."""

    def forward(self, z):
        return z * (0.0 if torch.compiler.is_exporting() else 1.0)


class MaxPool(nn.Module):
    def forward(self, z):
        return nn.functional.adaptive_max_pool2d(z, (2, 3)).flatten(1)


def run(path, samples):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return session.run(None, {given.name: samples.numpy()})[0]


def test_file_computes_the_module(tmp_path):
    module = make_module()
    path = write_onnx(module, tmp_path / "model.onnx")
    assert path == tmp_path / "model.onnx" and [*tmp_path.iterdir()] == [path]
    for n in (1, 2, 7):
        rows = torch.randn(n, 4)
        np.testing.assert_allclose(run(path, rows), module(rows), atol=1e-6)


@pytest.mark.parametrize(
    ("image_size", "size"), [(None, (9, 8)), (14, (14, 14)), ((31, 6), (31, 6))]
)
def test_file_takes_raw_images(tmp_path, image_size, size):
    module = make_module(MaxPool(), preprocessing=IMAGES)
    path = write_onnx(module, str(tmp_path / "model.onnx"), image_size=image_size)
    for n in (1, 2, 7):
        images = module.example(n, image_size)
        assert images.shape == (n, *size, 3)
        np.testing.assert_allclose(run(path, images), module(images), atol=1e-5)


def test_file_describes_itself(tmp_path):
    classes = np.array([3, 5, 8])
    module = make_module(classes=classes, value_range=(0.0, 1.0))
    model = onnx.load(write_onnx(module, tmp_path / "model.onnx"))
    onnx.checker.check_model(model)
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert found == module.metadata and json.loads(found["classes"]) == [3, 5, 8]
    assert [i.name for i in model.graph.input] == ["rows"]
    assert [o.name for o in model.graph.output] == ["probabilities"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert model.opset_import[0].version == 18


def test_file_holds_no_paths_of_the_machine(tmp_path):
    path = write_onnx(make_module(), tmp_path / "model.onnx")
    assert b".py" not in path.read_bytes()


@pytest.mark.parametrize("size", [(2, 3), (5, 7), (1, 1)])
def test_max_pool_in_parts(size):
    z = torch.randn(2, 3, 5, 7)
    expected = nn.functional.adaptive_max_pool2d(z, size)
    assert torch.equal(_onnx._max_pool(z, size)[0], expected)


def test_check_path_accepts_new_and_existing_files(tmp_path):
    assert check_path(tmp_path / "a.onnx") == tmp_path / "a.onnx"
    (tmp_path / "a.onnx").write_bytes(b"old")
    assert check_path(str(tmp_path / "a.onnx")) == tmp_path / "a.onnx"


def test_path_of_a_folder(tmp_path):
    message = (
        f"`path` must be that of a file. Got {str(tmp_path)!r}, which is a folder; add "
        "a name, such as 'model.onnx'."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        write_onnx(None, tmp_path)


def test_path_in_no_folder(tmp_path):
    path = tmp_path / "missing" / "model.onnx"
    message = (
        f"`path` must be that of a file in a folder that exists. Got {str(path)!r}; "
        f"make {str(path.parent)!r} first."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        write_onnx(None, path)


def test_image_size_of_rows(tmp_path):
    with pytest.raises(ValueError, match="`image_size` must be None for a backbone"):
        write_onnx(make_module(), tmp_path / "model.onnx", image_size=8)
    assert [*tmp_path.iterdir()] == []


def test_missing_package(tmp_path, monkeypatch):
    def refuse(module, **why):
        raise ImportError(f"{why['feature']} needs {module}: {why['extra']}")

    monkeypatch.setattr(_onnx, "import_optional", refuse)
    with pytest.raises(ImportError, match="`to_onnx` needs onnx: onnx"):
        write_onnx(make_module(), tmp_path / "model.onnx")


def test_network_without_translation_keeps_the_existing_file(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    message = "The network cannot be translated to ONNX; `to_torch` returns it as"
    with pytest.raises(RuntimeError, match=message) as caught:
        write_onnx(make_module(Fails()), path)
    assert "The reason: " in str(caught.value) and caught.value.__cause__ is not None
    assert [*tmp_path.iterdir()] == [path] and path.read_bytes() == b"old"


def test_file_that_computes_something_else_is_not_written(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    message = (
        r"ONNX must compute what PyTorch computes, up to 0.0001. Got a difference of "
        r"1 for 2 sample\(s\) with onnxruntime .*; nothing was written."
    )
    with pytest.raises(RuntimeError, match=message):
        write_onnx(make_module(Drops()), path)
    assert [*tmp_path.iterdir()] == [path] and path.read_bytes() == b"old"
