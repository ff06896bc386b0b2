"""Samples of images, read when they are indexed."""

import io
import re
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from sklearn.datasets import load_digits, load_sample_images

from sktransfer.inputs import ImagePreprocessing, Samples, as_samples, open_image
from sktransfer.inputs.images._files import content_of, file_content

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


@pytest.fixture
def photo(tmp_path):
    """A JPEG file of 427 x 640 pixels that the orientation in its tags turns."""
    return save_photo(tmp_path, 6)


def save_photo(folder, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = Image.fromarray(load_sample_images().images[0])
    image.save(folder / "photo.jpg", quality=95, exif=exif)
    return str(folder / "photo.jpg")


@pytest.mark.parametrize(
    ("gap", "size"),
    [(None, (427, 640)), (1.0, (54, 80)), (1.7, (107, 160)), (7, (427, 640))],
)
def test_large_files_are_decoded_at_a_part_of_their_size(photo, gap, size):
    part = replace(PREPROCESSING, resize=50, reducing_gap=gap)
    with open(photo, "rb") as file:
        samples = as_samples([photo, file.read()], part)
    assert samples[0].size == samples[1].size == size
    digest, image = samples.take([1]).read(0)
    assert image.size == size and digest == samples.digest(0) == digest_of(Path(photo))


@pytest.mark.parametrize("resize", [50, (40, 50)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_reduced_decoding_moves_no_pixel(tmp_path, orientation, resize):
    photo = save_photo(tmp_path, orientation)
    size = (40, 50) if orientation < 5 else (50, 40)
    part = replace(PREPROCESSING, size=size, resize=resize, reducing_gap=2)
    reduced, whole = (
        as_samples([photo], replace(part, reducing_gap=gap))[0] for gap in (2, None)
    )
    assert whole.size[0] > 3 * reduced.size[0]
    difference = abs(np.int16(part.prepare(reduced)) - part.prepare(whole))
    assert difference.mean() < 0.8 and difference.max() < 12


def test_narrow_image_decoded_at_a_part_of_its_size(tmp_path):
    path = str(tmp_path / "a.jpg")
    Image.fromarray(load_sample_images().images[0]).resize((20, 20_000)).save(path)
    part = replace(PREPROCESSING, size=(300, 300), resize=300, reducing_gap=1)
    assert part.prepare(as_samples([path], part)[0]).shape == (300, 300, 3)


def test_samples_are_decoded_as_each_preprocessing_says(photo):
    samples = as_samples([photo], replace(PREPROCESSING, reducing_gap=2))
    assert samples[0].size == (54, 80)
    assert as_samples(samples, PREPROCESSING)[0].size == (427, 640)
    assert samples[0].size == (54, 80)


def test_other_files_and_images_are_decoded_in_full(photo, tmp_path):
    image = open_image(photo)
    image.save(tmp_path / "a.png")
    pixels = np.asarray(image)
    with Image.open(photo) as opened:
        X = [str(tmp_path / "a.png"), pixels, opened]
        samples = as_samples(X, replace(PREPROCESSING, reducing_gap=1))
        for i in range(3):
            np.testing.assert_array_equal(samples[i], pixels)


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


def test_digest_covers_pixels_shape_and_range():
    X = np.arange(16.0).reshape(1, 2, 8)
    digests = {
        samples_of(X, value_range=(0, 16)).digest(0),
        samples_of(X, value_range=(0, 255)).digest(0),
        samples_of(X.reshape(1, 4, 4), value_range=(0, 16)).digest(0),
        samples_of(X[:, ::-1], value_range=(0, 16)).digest(0),
    }
    assert len(digests) == 4


def test_digest_is_the_same_for_equal_images():
    photo = load_sample_images().images[0]
    digests = {
        samples_of(X).digest(0)
        for X in (photo[None], [Image.fromarray(photo)], photo[None] / 255)
    }
    assert len(digests) == 1


def test_digest_of_a_deep_file_covers_the_range():
    content = png(Image.new("I;16", (2, 2), 300))
    ranges = [(0, 500), (0.0, 500.0), (0, 4095), "auto"]
    digests = [samples_of([content], value_range=r).digest(0) for r in ranges]
    assert digests[0] == digests[1] and len({*digests}) == 3
    shallow = png(Image.new("L", (2, 2), 30))
    assert len({samples_of([shallow], value_range=r).digest(0) for r in ranges}) == 1


def test_read_returns_the_current_content(tmp_path):
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


def test_changed_samples_warn_once(paths):
    samples = samples_of(paths)
    message = rf"^Sample 1 \('{re.escape(paths[1])}'\) changed while samples were read"
    with pytest.warns(UserWarning, match=message):
        samples.warn_of_change(1)
    samples.take([0]).warn_of_change(0)


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

    monkeypatch.setattr("sktransfer.inputs.images._samples.decode", fail)
    with pytest.raises(MemoryError):
        samples_of(paths)[0]


def test_reading_does_not_warn(paths):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = samples_of(load_digits().images, value_range=(0, 16))[0]
        torch.from_numpy(np.array(PREPROCESSING.prepare(image)))


def random_image(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def colour(image):
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBX", (1, 2, 3, 4), (1, 2, 3)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (0, 0), (255, 255, 255)),
        ("La", (0, 51), (204, 204, 204)),
        ("RGBA", (200, 0, 0, 255), (200, 0, 0)),
        ("RGBA", (255, 0, 0, 51), (255, 204, 204)),
        ("RGBa", (51, 0, 0, 51), (255, 204, 204)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("YCbCr", (128, 128, 128), (128, 128, 128)),
        ("HSV", (0, 255, 255), (255, 0, 0)),
        ("I;16", 257 * 100, (100, 100, 100)),
        ("I;16", 100, (0, 0, 0)),
        ("I;16", 129, (1, 1, 1)),
        ("I;16B", 257 * 100, (100, 100, 100)),
        ("I", 200, (200, 200, 200)),
        ("F", 0.2, (51, 51, 51)),
        ("F", 1.0, (255, 255, 255)),
    ],
)
def test_open_image_mode(mode, value, expected):
    assert colour(open_image(Image.new(mode, (3, 2), value))) == expected


def test_open_image_lab():
    red, green, blue = colour(open_image(Image.new("LAB", (2, 2), (255, 128, 128))))
    assert min(red, green, blue) >= 253


@pytest.mark.parametrize(
    ("mode", "value", "message"),
    [
        ("I", -3, "look normalised already.*Got values from -3 to -3.*pass `value_ra"),
        ("I", 257, r"within \(0, 255\) for dtype int32.* to 257, .*\(0, 257\)`"),
        ("I", 9000, r"from 9000 to 9000, .* in sample 0; .*`value_range=\(0, 65535\)`"),
        ("F", 99.5, r"within \(0, 1\) for dtype float32.*`value_range=\(0, 255\)`"),
        ("F", -0.5, "look normalised already.*Got values from -0.5"),
    ],
)
def test_open_image_deep_as_an_array(mode, value, message):
    image = Image.new(mode, (2, 2), value)
    for source in (image, encoded(image, "TIFF"), np.asarray(image)):
        with pytest.raises(ValueError, match=message):
            open_image(source)
        given = (value - 1, value + 1)
        assert colour(open_image(source, value_range=given)) == (128, 128, 128)
        with pytest.raises(ValueError, match=f"Values must be within .*Got {value}"):
            open_image(source, value_range=(0.5, 0.6))


def test_open_image_transparent_values_lie_outside_the_range():
    values = np.array([[9, 9000, 4095]], np.uint16)
    content = encoded(Image.fromarray(values), "PNG", transparency=9000)
    image = open_image(content, value_range=(0, 4095))
    assert [image.getpixel((x, 0))[0] for x in range(3)] == [1, 255, 255]
    content = encoded(Image.new("I;16", (2, 2), 9000), "PNG", transparency=9000)
    assert colour(open_image(content, value_range=(0, 1))) == (255, 255, 255)


def test_open_image_deep_file_is_turned_upright():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    content = encoded(Image.fromarray(values), "TIFF", exif=exif)
    expected = np.asarray(open_image(np.rot90(values, -1)))
    np.testing.assert_array_equal(np.asarray(open_image(content)), expected)


def test_open_image_derived_from_a_file_is_not_rotated():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    lying = random_image(5, 3)
    with Image.open(io.BytesIO(encoded(lying, "PNG", exif=exif))) as photo:
        upright = photo.transpose(Image.Transpose.ROTATE_270)
        for source in (photo, upright, ImageOps.exif_transpose(photo)):
            np.testing.assert_array_equal(open_image(source), np.asarray(upright))
        for source in (photo.copy(), photo.convert("RGB")):
            np.testing.assert_array_equal(open_image(source), np.asarray(lying))


def test_open_image_no_pixels():
    with pytest.raises(ValueError, match="at least one pixel. Got 0 x 3 px"):
        open_image(Image.new("RGB", (0, 3)))


def test_open_image_palette():
    image = Image.new("P", (2, 2), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    assert colour(open_image(image)) == (0, 255, 0)
    assert colour(open_image(encoded(image, "PNG"))) == (0, 255, 0)
    assert colour(open_image(encoded(image, "PNG", transparency=1))) == (255,) * 3
    assert colour(open_image(encoded(image, "GIF", transparency=1))) == (255,) * 3
    half = encoded(image, "PNG", transparency=bytes([255, 51]))
    assert colour(open_image(half)) == (204, 255, 204)


def test_open_image_transparent_gray_level():
    for image in (Image.new("L", (2, 2), 9), Image.new("I;16", (2, 2), 9)):
        assert colour(open_image(encoded(image, "PNG", transparency=9))) == (255,) * 3
        assert colour(open_image(encoded(image, "PNG", transparency=8))) != (255,) * 3


def test_open_image_files_of_pil():
    cmyk = encoded(Image.new("CMYK", (16, 16), (255, 0, 255, 0)), "JPEG")
    np.testing.assert_allclose(colour(open_image(cmyk)), (0, 255, 0), atol=3)
    deep = Image.fromarray(np.full((2, 3), 40_000, np.uint16))
    assert colour(open_image(encoded(deep, "PNG"))) == (156, 156, 156)
    assert colour(open_image(encoded(deep, "TIFF"))) == (156, 156, 156)
    bits = Image.new("1", (9, 9), 1)
    assert colour(open_image(encoded(bits, "PNG"))) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_open_image_exif_orientation(orientation, tmp_path):
    upright = random_image(5, 3)
    undo = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = upright
    for method in undo.get(orientation, []):
        stored = stored.transpose(method)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    for format in ("PNG", "TIFF"):
        path = tmp_path / f"image.{format.lower()}"
        stored.save(path, format, exif=exif)
        with Image.open(path) as opened:
            for image in (open_image(path), open_image(opened)):
                np.testing.assert_array_equal(np.asarray(image), np.asarray(upright))


def test_open_image_broken_exif_is_ignored():
    image = random_image(3, 2)
    image.info["exif"] = b"Exif\x00\x00no tiff header"
    np.testing.assert_array_equal(np.asarray(open_image(image)), np.asarray(image))


def test_open_image_sources_agree(tmp_path):
    photo = load_sample_images().images[0]
    image = Image.fromarray(photo)
    path = tmp_path / "photo.png"
    image.save(path)
    content = path.read_bytes()
    tensor = torch.from_numpy(photo.copy()).permute(2, 0, 1)
    for source in (
        str(path),
        path,
        content,
        bytearray(content),
        memoryview(content),
        image,
        photo,
        tensor,
        photo / 255,
        photo.astype(np.uint16) * 257,
    ):
        opened = open_image(source)
        assert opened.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(opened), photo)


def test_open_image_jpeg_is_exact():
    photo = Image.fromarray(load_sample_images().images[1])
    content = encoded(photo, "JPEG", quality=80)
    expected = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(np.asarray(open_image(content)), expected)


def test_open_image_wrong_type():
    with pytest.raises(TypeError, match=r"An image must be a path.*Got 3 \(int\)"):
        open_image(3)


def test_open_image_of_no_image(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    for source in (b"", tmp_path / "empty"):
        with pytest.raises(UnidentifiedImageError, match="it is empty, of 0 bytes"):
            open_image(source)
    (tmp_path / "text").write_bytes(b"Dear all, this is a text.")
    for source in (b"Dear all, this is a text.", str(tmp_path / "text")):
        with pytest.raises(
            UnidentifiedImageError, match="begins with b'Dear all, this i'"
        ):
            open_image(source)


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_open_image_with_more_pixels_than_pillow_opens(monkeypatch):
    content = encoded(random_image(20, 20), "PNG")
    for limit in (199, 399):  # an error, and a warning that is one here
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(
            ValueError, match=r"400 pixels.* set `PIL.Image.MAX_IMAGE_P"
        ):
            open_image(content)
