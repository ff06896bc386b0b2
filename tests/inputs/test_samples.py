"""One lazy interface for samples of any kind."""

import io
import threading
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from sktransfer.inputs import ImagePreprocessing, Samples, as_samples

PREPROCESSING = ImagePreprocessing((8, 8), 8, "bilinear", (0.5,) * 3, (0.5,) * 3)
COLOURS = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255)}


def samples_of(X, **options):
    return as_samples(X, PREPROCESSING, **options)


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_pil_images_opened_lazily_by_many_threads(tmp_path):
    path = tmp_path / "photo.png"
    photo = load_sample_images().images[0]
    Image.fromarray(photo).save(path)
    with Image.open(path) as image:
        samples = samples_of([image] * 6)
        read = [None] * 6

        def fill(i):
            read[i] = np.array(samples[i])

        threads = [threading.Thread(target=fill, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert samples.describe(2) == f"sample 2 ({str(path)!r})"
    for result in read:
        np.testing.assert_array_equal(result, photo)


def test_take_is_lazy_and_keeps_position(paths):
    broken = paths[1]
    with open(broken, "wb") as file:
        file.write(b"no image")
    part = samples_of(paths).take([2, 1, 0]).take(np.array([True, True, False]))
    assert isinstance(part, Samples)
    assert part[0].getpixel((0, 0)) == COLOURS["blue"]
    assert part.describe(1) == f"sample 1 ({broken!r})"
    assert part.describe(-1) == part.describe(1)


def test_take_takes_the_digests_along(paths):
    samples = samples_of(paths)
    assert samples.take([0]).digests is None
    samples.digests = [b"0", b"1", b"2"]
    assert samples.take([2, 0]).take([1]).digests == [b"0"]


def test_samples_pass_through(paths):
    samples = samples_of(paths)
    assert samples_of(samples) is samples


def test_index_out_of_range(paths):
    with pytest.raises(IndexError):
        samples_of(paths)[3]


def test_content_of_encoded_is_its_bytes():
    content = png(Image.new("RGB", (2, 2), "red"))
    for same in (content, bytearray(content), memoryview(content)):
        assert samples_of([same]).content(0) == content


def test_content_tells_pixels_shape_and_range():
    X = np.arange(16.0).reshape(1, 2, 8)
    contents = {
        samples_of(X).content(0),
        samples_of(X, value_range=(0, 255)).content(0),
        samples_of(X.reshape(1, 4, 4)).content(0),
        samples_of(X[:, ::-1]).content(0),
    }
    assert len(contents) == 4


def test_content_same_for_equal_images():
    photo = load_sample_images().images[0]
    contents = {
        samples_of(X).content(0)
        for X in (photo[None], [Image.fromarray(photo)], photo[None] / 255)
    }
    assert len(contents) == 1


@pytest.mark.parametrize("damage", ["text", "truncated", "empty"])
@pytest.mark.parametrize("kind", ["path", "bytes"])
def test_unreadable_file(damage, kind, tmp_path):
    content = png(Image.fromarray(load_sample_images().images[0]))
    bad = {"text": b"hello", "truncated": content[:9999], "empty": b""}[damage]
    path = tmp_path / "Bad.png"
    path.write_bytes(bad)
    samples = samples_of([content, str(path) if kind == "path" else bad])
    name = r" \('.*Bad\.png'\)" if kind == "path" else ""
    message = f"be readable images. Got sample 1{name}, which is not; .*The reason: ."
    with pytest.raises(ValueError, match=message) as info:
        samples[1]
    assert isinstance(info.value.__cause__, OSError)


def test_memory_error_is_not_wrapped(monkeypatch, paths):
    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("sktransfer.inputs._samples.open_image", fail)
    with pytest.raises(MemoryError):
        samples_of(paths)[0]


def test_reading_does_not_warn(paths):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = samples_of(load_digits().images)[0]
        torch.from_numpy(np.array(PREPROCESSING.prepare(image)))
