"""Images of one channel and more than 8 bits."""

import io

import numpy as np
import pytest
from PIL import Image

from sktransfer.inputs import _deep
from sktransfer.inputs._deep import deep_dtype, deep_values, is_deep, visible_values


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "format", "dtype"),
    [
        ("I;16", "PNG", np.uint16),
        ("I;16", "TIFF", np.uint16),
        ("I;16B", "TIFF", np.uint16),
        ("I;16", "JPEG2000", np.uint16),
        ("I", "TIFF", np.int32),
        ("I", "PPM", np.int32),
        ("F", "TIFF", np.float32),
        ("L", "PNG", None),
        ("RGB", "JPEG", None),
        ("RGB", "WEBP", None),
        ("P", "GIF", None),
        ("L", "BMP", None),
        ("L", "TIFF", None),
        ("L", "PPM", None),
    ],
)
def test_deep_dtype_by_the_header(mode, format, dtype, tmp_path):
    image = Image.new(mode, (3, 2), 300 if dtype else 3)
    content = encoded(image, format)
    path = tmp_path / "a.jpg"  # whatever its name says
    path.write_bytes(content)
    with Image.open(path) as opened:
        for source in (image, content, str(path), opened):
            assert deep_dtype(source) == dtype
    assert is_deep(content) == (dtype is not None)
    values = visible_values(content)
    if dtype is None:
        assert values is None
    else:
        assert values.dtype == dtype and (values == 300).all()


def test_common_formats_are_known_by_their_first_bytes(monkeypatch, tmp_path):
    monkeypatch.setattr(_deep.Image, "open", None)
    for format in ("PNG", "JPEG", "GIF", "BMP", "WEBP"):
        content = encoded(Image.new("L", (3, 2)), format)
        (tmp_path / format).write_bytes(content)
        assert deep_dtype(content) is deep_dtype(str(tmp_path / format)) is None


def test_what_is_no_image_is_not_deep(tmp_path):
    for item in (b"", b"text", str(tmp_path / "gone"), None, 3):
        assert deep_dtype(item) is None
    assert not is_deep(b"") and not is_deep(b"text")


def test_transparent_values_are_not_visible():
    values = np.array([[1, 300, 2]], np.uint16)
    content = encoded(Image.fromarray(values), "PNG", transparency=300)
    assert visible_values(content).tolist() == [1, 2]
    with Image.open(io.BytesIO(content)) as image:
        found, transparent = deep_values(image)
    np.testing.assert_array_equal(found, values)
    assert transparent.tolist() == [[False, True, False]]
