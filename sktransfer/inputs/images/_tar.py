"""Images of tar files, with an index of where each one begins."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable

import numpy as np
from PIL import Image

from sktransfer.inputs.images._files import Content, content_of
from sktransfer.inputs.images._stored import ImageSource
from sktransfer.utils import FileCache

_LABELS = (".cls", ".txt")  # endings of members that hold a label


def image_tar(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
) -> tuple[np.ndarray, np.ndarray | None]:
    """List the images of tar files, in the order in which they are stored.

    This is the form that WebDataset gives to large sets of images: the members of a
    sample have one name up to the first dot, as in ``0001.jpg`` and ``0001.cls``. The
    files are read once for their index; images are read when they are needed.

    Parameters
    ----------
    paths : str, os.PathLike or iterable of these
        Uncompressed tar files. Members without an ending that Pillow knows, such as
        ``.json``, hidden ones, and those with a second dot, such as ``0001.mask.png``,
        are left out.

    Returns
    -------
    images : ndarray of shape (n_images,), object
        References to the images, to be passed as X. They are small when pickled.
    labels : ndarray of shape (n_images,), int or str, or None
        Contents of the members that end with ``.cls``, or else with ``.txt``, to be
        passed as y. They are ints if all of them are. None if there are no such
        members.

    Raises
    ------
    ValueError
        If a file is no uncompressed tar file or is truncated, there is no image, a
        sample has several images, or only some images have a label.

    See Also
    --------
    image_folder : For a folder with one subfolder per class.
    image_column : For Parquet files and datasets of Hugging Face.

    Examples
    --------
    >>> import io, tarfile, tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from sktransfer.inputs import image_tar
    >>> path = Path(tempfile.mkdtemp()) / "train-000.tar"
    >>> with tarfile.open(path, "w") as tar:
    ...     for i in range(3):
    ...         image = io.BytesIO()
    ...         Image.new("RGB", (40, 30), (80 * i, 0, 0)).save(image, "png")
    ...         for ending, data in (("png", image.getvalue()), ("cls", b"%d" % i)):
    ...             member = tarfile.TarInfo(f"{i:04d}.{ending}")
    ...             member.size = len(data)
    ...             tar.addfile(member, io.BytesIO(data))
    >>> images, labels = image_tar(path)
    >>> images[1]
    StoredImage('.../train-000.tar/0001.png')
    >>> labels
    array([0, 1, 2])
    """
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    files = [os.fspath(path) for path in paths]
    shards, names, labels = [], [], []
    for path in files:
        members, of_members = _index(path)
        shards.append(TarImages(path, members))
        names += [f"{path}/{name}" for name, *_ in members]
        labels += of_members
    if not names:
        raise ValueError(
            f"`paths` must be tar files that hold images. Got {files!r}, in which "
            "there is none."
        )
    return np.concatenate([s.images() for s in shards]), _as_labels(names, labels)


class TarImages(ImageSource):
    """Images of one tar file, by triples (name, first byte, number of bytes)."""

    def __init__(self, path: str, members: list[tuple[str, int, int]]):
        self._path = path
        self._names = np.array([os.fsencode(name) for name, *_ in members], dtype="S")
        self._spans = np.array([span for _, *span in members], np.int64).reshape(-1, 2)

    def __len__(self):
        return len(self._spans)

    def read(self, i: int) -> bytes:
        """Read image `i` from its place in the file."""
        with open(self._path, "rb") as file:
            return _read_span(file, *self._spans[i].tolist())

    def name(self, i: int) -> str:
        """Return the path of the file, and the name of image `i` in it."""
        return f"{self._path}/{os.fsdecode(self._names[i])}"

    def content(self, i: int, upright: bool) -> Content:
        """Return the hash of image `i`, which is not read again in a known file."""
        return _known(self._path, upright, *self._spans[i].tolist())


def _read_span(file, start, size):
    file.seek(start)
    data = file.read(size)
    if len(data) < size:
        raise OSError("the tar file ends before the image does")
    return data


def _content_of_span(file, upright, start, size):
    return content_of(_read_span(file, start, size), upright)


_known = FileCache(_content_of_span)


def _index(path):
    """Return the images of a tar file, (name, first byte, number of bytes), and labels.

    The label of an image is of bytes, or None.
    """
    known, images, labels = Image.registered_extensions(), {}, {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in filter(tarfile.TarInfo.isfile, tar):
                key, ending = _split(member.name)
                if key is None:
                    continue
                if ending in _LABELS:
                    labels.setdefault(ending, {})[key] = tar.extractfile(member).read()
                elif ending in known:
                    if key in images:
                        raise ValueError(_several(path, images[key][0], member.name))
                    images[key] = member.name, member.offset_data, member.size
    except tarfile.TarError as error:
        raise ValueError(
            f"`paths` must be uncompressed, complete tar files. Got {path!r}: {error}."
        ) from error
    of_images = next((labels[ending] for ending in _LABELS if ending in labels), {})
    return [*images.values()], [of_images.get(key) for key in images]


def _split(name):
    """Return a member's name up to the first dot, None if it is hidden, and the rest.

    The rest is in lower case.
    """
    folder, _, name = name.rpartition("/")
    stem, dot, ending = name.partition(".")
    return f"{folder}/{stem}" if stem else None, (dot + ending).lower()


def _several(path, one, other):
    return (
        "A sample must have one image, and is named up to the first dot. Got "
        f"{one!r} and {other!r} in {path!r}; write a tar file with one of them."
    )


def _as_labels(names, labels):
    """Return the labels of images as an array, None if there are none."""
    missing = [n for n, label in zip(names, labels, strict=True) if label is None]
    if len(missing) == len(labels):
        return None
    if missing:
        raise ValueError(
            "All images must have a label, or none. Got no label, in a member that "
            f"ends with '.cls' or '.txt', for {len(missing)} of {len(labels)} images, "
            f"such as {missing[0]!r}."
        )
    texts = [label.decode().strip() for label in labels]
    try:
        return np.array([*map(int, texts)])
    except ValueError:
        return np.array(texts)
