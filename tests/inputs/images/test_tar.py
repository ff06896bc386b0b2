"""Images of tar files."""

import re
import tarfile

import numpy as np
import pytest

from sktransfer.inputs import as_samples, image_tar, open_image
from tests._bad_input import IMAGES, LABELS, PREPROCESSING
from tests._stored import FILES, write_shards, write_tar


def test_images_and_labels_in_their_order(tmp_path):
    paths = write_shards(tmp_path)
    images, labels = image_tar(iter(paths))
    assert [image.read() for image in images] == FILES
    assert labels.tolist() == LABELS.tolist() and labels.dtype.kind == "i"
    assert images[6].name == f"{tmp_path}/5.tar/0006.png"
    assert repr(images[6]) == f"StoredImage('{tmp_path}/5.tar/0006.png')"
    first, _ = image_tar(str(paths[0]))
    assert [image.name for image in first] == [image.name for image in images[:5]]


def test_samples_are_named_up_to_the_first_dot(tmp_path):
    members = [
        ("./a/1.PNG", FILES[0]),
        ("./a/1.mask.png", FILES[1]),
        ("./a/1.txt", b"a cat"),
        ("./b/1.png", FILES[2]),
        ("./b/1.txt", b"a dog\n"),
        ("./b/._1.png", b"hidden"),
        ("./b/readme", b"no ending"),
    ]
    path = write_tar(tmp_path / "x.tar", members)
    with tarfile.open(path, "a") as tar:
        folder = tarfile.TarInfo("./c.png")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    images, labels = image_tar(path)
    assert [image.read() for image in images] == [FILES[0], FILES[2]]
    assert labels.tolist() == ["a cat", "a dog"]


def test_labels_are_classes_rather_than_texts_or_missing(tmp_path):
    members = [("1.png", FILES[0]), ("1.txt", b"a cat"), ("1.cls", b"cat")]
    assert image_tar(write_tar(tmp_path / "x.tar", members))[1].tolist() == ["cat"]
    assert image_tar(write_tar(tmp_path / "y.tar", members[:1]))[1] is None


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("1.txt", b"")], "must be tar files that hold images. Got ['{path}'], in "),
        (
            [("1.png", b""), ("1.jpg", b"")],
            "must have one image, and is named up to the first dot. Got '1.png' and "
            "'1.jpg' in '{path}'; write",
        ),
        (
            [("1.png", b""), ("2.png", b""), ("2.cls", b"1")],
            "must have a label, or none. Got no label, in a member that ends with "
            "'.cls' or '.txt', for 1 of 2 images, such as '{path}/1.png'.",
        ),
    ],
)
def test_members_that_are_no_set_of_images(members, message, tmp_path):
    path = write_tar(tmp_path / "x.tar", members)
    with pytest.raises(ValueError, match=re.escape(message.format(path=path))):
        image_tar(path)


def test_files_that_are_no_whole_tar_file(tmp_path):
    path = write_tar(tmp_path / "x.tar", [("1.png", FILES[0] * 30)])
    packed = tmp_path / "x.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(path, "x.tar")
    cut = tmp_path / "cut.tar"
    cut.write_bytes(path.read_bytes()[:1000])
    for wrong in (packed, cut):
        message = f"must be uncompressed, complete tar files. Got '{wrong}': "
        with pytest.raises(ValueError, match=re.escape(message)):
            image_tar(wrong)
    images, _ = image_tar(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(OSError, match="the tar file ends before the image does"):
        images[0].read()


def test_hash_is_that_of_the_bytes_and_is_kept(tmp_path, monkeypatch):
    images, _ = image_tar(write_shards(tmp_path))
    samples = as_samples(images, PREPROCESSING)
    expected = as_samples(FILES, PREPROCESSING)
    assert samples.digest(7) == expected.digest(7) != samples.digest(6)
    np.testing.assert_array_equal(np.asarray(open_image(images[7])), IMAGES[7])
