import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sktransfer import FineTunedClassifier
from sktransfer.__main__ import main

COLOURS = {"blue": (40, 60, 200), "red": (200, 60, 40)}


def _save_images(folder, n):
    rng = np.random.RandomState(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = np.clip(rng.normal(colour, 30, (24, 30, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return _save_images(tmp_path_factory.mktemp("photos") / "all", 8)


@pytest.fixture(scope="module")
def output(photos, tmp_path_factory):
    """The folder that training wrote."""
    folder = tmp_path_factory.mktemp("models") / "new" / "model"
    options = ["--image-size", "32", "--output", str(folder)]
    assert main([str(photos), *options]) == 0
    return folder


def test_train_saves_a_classifier_and_figures(output, photos):
    assert {"model.joblib", "stages.png"} <= {path.name for path in output.iterdir()}
    model = joblib.load(output / "model.joblib")
    assert isinstance(model, FineTunedClassifier)
    assert model.classes_.tolist() == ["blue", "red"]
    assert model.image_size == 32
    assert model.predict([str(photos / "red" / "0.png")]) == ["red"]


def test_train_prints_a_table(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    options = ["--image-size", "32", "--output", str(tmp_path), "--held-out", "0.5"]
    assert main(["train", str(photos), *options]) == 0
    said, progress = capsys.readouterr()
    assert "8 images to train on, 8 held out" in said
    assert "Train: 100%" in progress
    assert joblib.load(tmp_path / "model.joblib").verbose == 0
    table = said[said.index(" method") :].splitlines()[1:6]
    names = [row.split("%")[0].rsplit(None, 1)[0].strip() for row in table]
    assert names == [
        "most frequent class",
        "raw pixels",
        "features",
        "linear probe",
        "fine-tuned",
    ]
    assert "50.0%" in table[0]  # of two classes
    assert f"sktransfer predict {tmp_path} new.jpg" in said


def test_predict_prints_csv(output, photos, capsys):
    paths = [str(photos / name / "0.png") for name in ("red", "blue")]
    assert main(["predict", str(output), *paths]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "path,class,probability"
    rows = [line.split(",") for line in lines[1:]]
    assert [row[:2] for row in rows] == [[paths[0], "red"], [paths[1], "blue"]]
    assert all(0.5 < float(row[2]) <= 1 for row in rows)


def test_explain_saves_a_figure(output, photos, tmp_path, capsys):
    file = tmp_path / "looks_at.png"
    asked = [str(photos / "red" / "0.png"), "--output", str(file)]
    assert main(["explain", str(output), *asked]) == 0
    assert str(file) in capsys.readouterr().out
    with Image.open(file) as figure:
        assert min(figure.size) > 100


def test_errors_are_printed_without_a_traceback(photos, tmp_path, capsys):
    few = _save_images(tmp_path / "few", 3)
    one = tmp_path / "one"
    (one / "red").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(one / "red" / "0.png")
    cases = {
        ("predict", str(tmp_path), "a.png"): "There is no model.joblib in",
        (str(tmp_path / "none"),): "`path` must be a folder",
        (str(few),): "Each class needs at least 4 images. Got 3 of",
        (str(one),): "There must be two subfolders of images or more. Got 'red'",
        (str(photos), "--held-out", "2"): "`--held-out` must be a share in (0, 1)",
        (str(photos), "--held-out", "0.9"): "must leave at least 2 images per class",
        (str(photos), "--backbone", "resnet1"): "resnet18",
        (str(photos), "--image-size", "-4"): "`image_size` must be",
    }
    for arguments, text in cases.items():
        assert main(arguments) == 1
        said = capsys.readouterr()
        assert said.err.startswith("error: ") and text in said.err, arguments
        assert "Traceback" not in said.err and "%" not in said.out


def test_missing_matplotlib_is_named_before_anything_is_computed(
    photos, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([str(photos)]) == 1
    said = capsys.readouterr()
    assert "pip install 'sktransfer[plot]'" in said.err and not said.out


def test_module_is_run_by_python():
    done = subprocess.run(
        [sys.executable, "-m", "sktransfer", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    for command in ("train", "predict", "explain"):
        assert command in done.stdout


@pytest.mark.parametrize("value", ["photo,1.png", 'a "b".png'])
def test_paths_are_quoted_in_csv(output, photos, tmp_path, capsys, value):
    file = tmp_path / value
    file.write_bytes((photos / "red" / "0.png").read_bytes())
    assert main(["predict", str(output), str(file)]) == 0
    (tmp_path / "found.csv").write_text(capsys.readouterr().out)
    assert pd.read_csv(tmp_path / "found.csv")["path"].tolist() == [str(file)]


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda file: file.write_bytes(b""), "cannot be read (EOFError"),
        (lambda file: file.write_bytes(b"no pickle"), "cannot be read ("),
        (
            lambda file: joblib.dump({"a": 1}, file),
            "holds a dict, where `train` writes",
        ),
    ],
    ids=["empty", "damaged", "other object"],
)
def test_model_that_is_none(write, said, tmp_path, capsys):
    write(tmp_path / "model.joblib")
    assert main(["predict", str(tmp_path), "a.png"]) == 1
    assert said in capsys.readouterr().err
