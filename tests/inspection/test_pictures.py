import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from sktransfer.backbones import load_backbone
from sktransfer.inputs import ImagePreprocessing, VectorPreprocessing, as_samples
from sktransfer.inputs.audio._samples import AudioSamples
from sktransfer.inputs.texts._samples import TextSamples
from sktransfer.inspection._pictures import picture, show


def test_images_are_thumbnails(tmp_path):
    Image.new("RGB", (400, 200), "red").save(tmp_path / "red.png")
    samples = as_samples([str(tmp_path / "red.png")], ImagePreprocessing())
    shown = picture(samples, 0)
    assert shown.shape == (64, 128, 3)
    assert shown[0, 0].tolist() == [255, 0, 0]
    assert picture(samples, 0, None).shape == (200, 400, 3)
    _, ax = plt.subplots()
    show(ax, shown)
    np.testing.assert_array_equal(ax.images[0].get_array(), shown)


def test_texts_are_wrapped_and_shortened():
    samples = TextSamples(["one two three " * 50, ("a", "b"), ""])
    assert picture(samples, 1) == "a / b"
    _, ax = plt.subplots()
    show(ax, picture(samples, 0), width=20)
    lines = ax.texts[0].get_text().splitlines()
    assert max(map(len, lines)) <= 20
    assert lines[-1].endswith("…")
    show(ax, picture(samples, 2))
    assert ax.texts[1].get_text() == "(empty)"


def test_recordings_are_curves():
    wave = np.linspace(-1, 1, 50, dtype=np.float32), 16000
    samples = AudioSamples([wave], max_seconds=9)
    shown = picture(samples, 0)
    _, ax = plt.subplots()
    show(ax, shown)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.linspace(-1, 1, 50))


def test_vectors_are_named():
    preprocessing = VectorPreprocessing(3)
    samples = as_samples(np.zeros((4, 3), np.float32), preprocessing)
    assert picture(samples.take([2]), 0) == "sample 2"
    assert preprocessing.kind == "vector"


@pytest.mark.parametrize("name", ["minilm"])
def test_read_texts_of_a_backbone(name):
    samples = as_samples(["a text"], load_backbone(name).preprocessing)
    assert picture(samples, 0) == "a text"
