"""Images of one channel and more than 8 bits."""

import io
import os
import time

import numpy as np
import pytest
from PIL import ExifTags, Image

from sktransfer.inputs.images import _files
from sktransfer.inputs.images._files import (
    content_of,
    deep_dtype,
    deep_values,
    file_content,
    visible_values,
)


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
    assert content_of(content).is_deep == (dtype is not None)
    values = visible_values(content)
    if dtype is None:
        assert values is None
    else:
        assert values.dtype == dtype and (values == 300).all()


def test_common_formats_are_known_by_their_first_bytes(monkeypatch, tmp_path):
    monkeypatch.setattr(_files.Image, "open", None)
    for format in ("PNG", "JPEG", "GIF", "BMP", "WEBP"):
        content = encoded(Image.new("L", (3, 2)), format)
        (tmp_path / format).write_bytes(content)
        assert deep_dtype(content) is deep_dtype(str(tmp_path / format)) is None


def test_what_is_no_image_is_not_deep(tmp_path):
    for item in (b"", b"text", str(tmp_path / "gone"), None, 3):
        assert deep_dtype(item) is None
    assert not content_of(b"").is_deep and not content_of(b"text").is_deep


def test_transparent_values_are_not_visible():
    values = np.array([[1, 300, 2]], np.uint16)
    content = encoded(Image.fromarray(values), "PNG", transparency=300)
    assert visible_values(content).tolist() == [1, 2]
    with Image.open(io.BytesIO(content)) as image:
        found, transparent = deep_values(image)
    np.testing.assert_array_equal(found, values)
    assert transparent.tolist() == [[False, True, False]]


@pytest.fixture
def path(tmp_path):
    """Return the path of a file that is old enough to be cached."""
    path = tmp_path / "a"
    path.write_bytes(b"one")
    return path


@pytest.fixture
def later(monkeypatch):
    """Set the clock of the module an hour ahead, so that files are old."""
    now = time.time_ns() + 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: now)


@pytest.fixture
def reads(monkeypatch):
    """Count how often the content of a file is read."""
    reads = []

    def spy(data, upright):
        reads.append(data)
        return content_of(data, upright)

    monkeypatch.setattr(_files, "content_of", spy)
    return reads


def test_file_digest_is_that_of_its_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    (tmp_path / "c").write_bytes(b"other")
    a, b, c = (file_content(tmp_path / name).digest for name in "abc")
    assert a == b == content_of(b"same").digest != c


def test_file_is_read_once(path, later, reads):
    assert file_content(path) is file_content(str(path))
    assert reads == [b"one"]


@pytest.mark.parametrize(("age", "n_reads"), [(1.9, 2), (2.1, 1), (-5, 2)])
def test_file_that_is_younger_than_two_seconds_is_read_again(
    path, reads, monkeypatch, age, n_reads
):
    written = max(os.stat(path).st_mtime_ns, os.stat(path).st_ctime_ns)
    monkeypatch.setattr(time, "time_ns", lambda: written + int(age * 10**9))
    file_content(path), file_content(path)
    assert len(reads) == n_reads


def test_old_modification_time_of_a_young_file_does_not_count(path, reads):
    os.utime(path, ns=(0, 0))  # as `cp -p` sets it
    file_content(path), file_content(path)
    assert len(reads) == 2


def test_file_of_other_size_time_or_inode_is_read_again(path, later, reads):
    first = file_content(path).digest
    times = os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns
    other = path.with_name("b")
    other.write_bytes(b"two")
    os.utime(other, ns=times)
    other.replace(path)
    second = file_content(path).digest
    os.utime(path, ns=(0, 0))
    assert file_content(path).digest == second != first
    assert reads == [b"one", b"two", b"two"]


def test_file_behind_a_link_is_known_by_its_own_path(tmp_path, later, reads):
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_bytes(name.encode())
    link = tmp_path / "now"
    link.symlink_to(tmp_path / "v1")
    first = file_content(link / "a").digest
    link.unlink()
    link.symlink_to(tmp_path / "v2")
    second = file_content(link / "a").digest
    assert second == file_content(tmp_path / "v2" / "a").digest != first
    assert reads == [b"v1", b"v2"]


def test_file_that_is_written_while_it_is_read_is_read_again(path, later, monkeypatch):
    def write_meanwhile(data, upright):
        path.write_bytes(b"longer")
        return content_of(data)

    with monkeypatch.context() as patch:
        patch.setattr(_files, "content_of", write_meanwhile)
        assert file_content(path).digest == content_of(b"one").digest
    assert file_content(path).digest == content_of(b"longer").digest


def test_identity_of_a_deep_image_includes_the_range():
    content = content_of(encoded(Image.new("I;16", (2, 2), 9), "PNG"))
    found = [content.identify(r) for r in [(0, 255), (0.0, 255.0), (0, 1), None]]
    assert found[0] == found[1] and len({*found}) == 3
    plain = content_of(encoded(Image.new("L", (2, 2), 9), "PNG"))
    assert plain.identify((0, 1)) == plain.identify(None) == plain.digest


@pytest.mark.parametrize(
    ("format", "tagged", "expected"),
    [
        ("PNG", False, False),
        ("PNG", True, True),
        ("JPEG", False, False),
        ("JPEG", True, True),
        ("WEBP", True, True),
        ("GIF", False, False),
        ("TIFF", False, True),  # its tags have no name
    ],
)
def test_identity_includes_whether_a_tagged_image_is_upright(format, tagged, expected):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    options = {"exif": exif} if tagged else {}
    data = encoded(Image.new("RGB", (4, 3)), format, **options)
    lying, upright = (content_of(data, upright).identify(None) for upright in (0, 1))
    assert (lying != upright) == expected


def test_file_is_known_by_how_it_is_read(tmp_path, later):
    path = tmp_path / "a.tif"
    Image.new("RGB", (4, 3)).save(path)
    lying, upright = (file_content(path, upright) for upright in (False, True))
    assert (lying.is_lying, upright.is_lying) == (True, False)
