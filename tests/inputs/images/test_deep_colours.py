"""Encoded images with colours of 16 bits per channel."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from sktransfer.inputs import ImagePreprocessing, as_samples, open_image
from sktransfer.inputs.images._deep_colours import (
    deep_colours,
    has_deep_colours,
    lower_bytes,
)
from sktransfer.inputs.images._files import content_of, deep_dtype, visible_values

RANGE = (0, 4095)


def png(values, chunks=()):
    """Encode uint16 values (h, w, c): gray with alpha, RGB, or RGBA."""
    h, w, c = values.shape
    kind = {2: 4, 3: 2, 4: 6}[c]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, kind, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data))
        + name
        + data
        + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def tiff(values, order="<", is_compressed=False, orientation=1):
    """Encode uint16 values (h, w, 3)."""
    h, w, c = values.shape
    data = values.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if is_compressed else data
    n = 11
    depths = 8 + 2 + 12 * n + 4  # where they are
    short = {258: None, 259: 8 if is_compressed else 1, 262: 2, 274: orientation}
    short |= {277: c, 284: 1}
    entries = {256: w, 257: h, 273: depths + 2 * c, 278: h, 279: len(data)}
    content = b"II*\0" if order == "<" else b"MM\0*"
    content += struct.pack(f"{order}IH", 8, n)
    for tag in sorted({**short, **entries}):
        if tag == 258:
            content += struct.pack(f"{order}HHII", tag, 3, c, depths)
        elif tag in short:
            content += struct.pack(f"{order}HHIHH", tag, 3, 1, short[tag], 0)
        else:
            content += struct.pack(f"{order}HHII", tag, 4, 1, entries[tag])
    return content + bytes(4) + struct.pack(f"{order}{c}H", *[16] * c) + data


@pytest.fixture
def values():
    return np.random.RandomState(0).randint(0, 4096, (5, 4, 3)).astype(np.uint16)


FILES = {
    "png": png,
    "tiff-little": tiff,
    "tiff-big": lambda values: tiff(values, ">"),
    "tiff-compressed": lambda values: tiff(values, is_compressed=True),
    "tiff-big-compressed": lambda values: tiff(values, ">", is_compressed=True),
}


@pytest.mark.parametrize("encode", FILES.values(), ids=FILES)
def test_files_of_deep_colours_are_read_as_arrays_are(encode, values, tmp_path):
    content = encode(values)
    path = tmp_path / "a.jpg"  # whatever its name says
    path.write_bytes(content)
    given = open_image(values, value_range=RANGE)
    for source in (content, str(path)):
        assert deep_dtype(source) == np.uint16
        np.testing.assert_array_equal(visible_values(source), values.reshape(-1, 3))
        np.testing.assert_array_equal(open_image(source, value_range=RANGE), given)
    bright = encode(values * 16)
    np.testing.assert_array_equal(open_image(bright), open_image(values * 16))
    assert content_of(content).is_deep
    assert len({content_of(content).identify(r) for r in (RANGE, (0, 65535))}) == 2


def test_values_of_deep_colours_out_of_the_range_are_an_error(values):
    with pytest.raises(ValueError, match="Values must be within `value_range`=.0, 255"):
        open_image(png(values), value_range=(0, 255))


def test_dark_files_of_deep_colours_warn_as_arrays_do(values):
    X = np.tile(values, (1, 3, 3, 1))
    for many in (X, [png(image) for image in X], [tiff(image) for image in X]):
        with pytest.warns(UserWarning, match="nearly black. Pass `value_range=.0, 40"):
            samples = as_samples(many, ImagePreprocessing())
        assert samples.value_range == (0, 65535)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples = as_samples(many, ImagePreprocessing(), value_range=RANGE)
    given = as_samples(X, ImagePreprocessing(), value_range=RANGE)
    np.testing.assert_array_equal(samples[0], given[0])


def test_alpha_of_deep_colours_is_laid_over_white(values):
    alpha = np.full((5, 4, 1), 65535, np.uint16)
    alpha[0] = 0
    values[0] = 65535  # hidden, so it need not lie in the range
    image = np.asarray(open_image(png(np.dstack([values, alpha])), value_range=RANGE))
    assert (image[0] == 255).all()
    given = np.asarray(open_image(values[1:], value_range=RANGE))
    np.testing.assert_array_equal(image[1:], given)
    gray = np.dstack([values[..., :1], alpha])
    image = np.asarray(open_image(png(gray), value_range=RANGE))
    assert (image[0] == 255).all()
    given = np.asarray(open_image(values[1:, :, 0], value_range=RANGE))
    np.testing.assert_array_equal(image[1:], given)
    alpha[:] = 0
    hidden = open_image(png(np.dstack([values, alpha])), value_range=RANGE)
    assert (np.asarray(hidden) == 255).all()


def test_deep_colours_are_turned_upright(values):
    image = Image.new("RGB", (1, 1))
    image.getexif()[274] = 6
    exif = image.getexif().tobytes().removeprefix(b"Exif\0\0")
    turned = np.rot90(values, -1)
    given = np.asarray(open_image(turned, value_range=RANGE))
    for content in (png(values, [(b"eXIf", exif)]), tiff(values, orientation=6)):
        found = np.asarray(open_image(content, value_range=RANGE))
        np.testing.assert_array_equal(found, given)


def test_lower_bytes_are_those_of_deep_colours_only(values):
    content = png(values)
    with Image.open(io.BytesIO(content)) as image:
        assert has_deep_colours(image)
        colours, alpha = deep_colours(image, lower_bytes(content))
        assert not has_deep_colours(image)  # it has been read
    np.testing.assert_array_equal(colours, values)
    assert (alpha == 255).all()
    for mode, format in (
        ("RGB", "PNG"),
        ("I;16", "PNG"),
        ("RGB", "TIFF"),
        ("L", "PPM"),
    ):
        file = io.BytesIO()
        Image.new(mode, (2, 2)).save(file, format)
        assert lower_bytes(file.getvalue()) is None


def test_truncated_file_of_deep_colours_says_so(values):
    noise = np.random.RandomState(0).randint(0, 65536, (40, 40, 3)).astype(np.uint16)
    with pytest.raises(OSError, match="truncated"):
        open_image(png(noise)[:5_000])
