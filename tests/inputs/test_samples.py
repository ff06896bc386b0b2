"""One lazy interface for samples of any kind."""

import io
import re
import threading
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from sktransfer.inputs import ImagePreprocessing, Samples, as_samples
from sktransfer.inputs._digest import content_of, file_content

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


def test_digest_of_encoded_is_that_of_its_bytes(tmp_path):
    content = png(Image.new("RGB", (2, 2), "red"))
    path = tmp_path / "red.png"
    path.write_bytes(content)
    for same in (content, bytearray(content), memoryview(content), path):
        samples = samples_of([same])
        assert samples.digest(0) == samples.read(0)[0] == file_content(path).digest


def test_digest_tells_pixels_shape_and_range():
    X = np.arange(16.0).reshape(1, 2, 8)
    digests = {
        samples_of(X).digest(0),
        samples_of(X, value_range=(0, 255)).digest(0),
        samples_of(X.reshape(1, 4, 4)).digest(0),
        samples_of(X[:, ::-1]).digest(0),
    }
    assert len(digests) == 4


def test_digest_is_the_same_for_equal_images():
    photo = load_sample_images().images[0]
    digests = {
        samples_of(X).digest(0)
        for X in (photo[None], [Image.fromarray(photo)], photo[None] / 255)
    }
    assert len(digests) == 1


def test_digest_of_a_deep_file_tells_the_range():
    content = png(Image.new("I;16", (2, 2), 300))
    ranges = [(0, 500), (0.0, 500.0), (0, 4095), "auto"]
    digests = [samples_of([content], value_range=r).digest(0) for r in ranges]
    assert digests[0] == digests[1] and len({*digests}) == 3
    shallow = png(Image.new("L", (2, 2), 30))
    assert len({samples_of([shallow], value_range=r).digest(0) for r in ranges}) == 1


def test_read_gives_what_is_there_now(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (2, 2), "red").save(path)
    samples = samples_of([path])
    before = samples.digest(0)
    Image.new("RGB", (2, 2), "blue").save(path)
    found, image = samples.read(0)
    assert found == digest_of(path) != before
    assert image.getpixel((0, 0)) == COLOURS["blue"]


def digest_of(path):
    return content_of(path.read_bytes()).digest


def test_what_can_change(tmp_path, paths):
    mapped = np.memmap(tmp_path / "a", np.uint8, "w+", shape=(2, 4, 4))
    assert samples_of(paths).can_change(1)
    assert samples_of(mapped).can_change(0) and samples_of([*mapped]).can_change(0)
    assert not samples_of(np.array(mapped)).can_change(0)
    assert not samples_of([png(Image.new("RGB", (2, 2)))]).can_change(0)


def test_changed_samples_are_told_once(paths):
    samples = samples_of(paths)
    message = rf"^Sample 1 \('{re.escape(paths[1])}'\) changed while samples were read"
    with pytest.warns(UserWarning, match=message):
        samples.tell_changed(1)
    samples.take([0]).tell_changed(0)


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

    monkeypatch.setattr("sktransfer.inputs._samples.decode", fail)
    with pytest.raises(MemoryError):
        samples_of(paths)[0]


def test_reading_does_not_warn(paths):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = samples_of(load_digits().images)[0]
        torch.from_numpy(np.array(PREPROCESSING.prepare(image)))
