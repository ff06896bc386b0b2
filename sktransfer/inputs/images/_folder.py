"""Paths and labels of a folder of images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from sktransfer.utils import check_random_state, types


def image_folder(
    path: str | os.PathLike, *, random_state: types.RandomState | None = 0
) -> tuple[np.ndarray, np.ndarray]:
    """List the images of a folder that has one subfolder per class, in random order.

    So folds that are not stratified hold all classes, too. No image is opened.

    Parameters
    ----------
    path : str or os.PathLike
        The folder. The images of a class may be in subfolders of its subfolder. Hidden
        files, and files without an ending that Pillow knows, are left out.
    random_state : int, RandomState instance or None, default=0
        Seed of the order.

    Returns
    -------
    paths : ndarray of shape (n_images,), str
        Paths of the images, to be passed as X.
    labels : ndarray of shape (n_images,), str
        Names of the subfolders, to be passed as y.

    Raises
    ------
    ValueError
        If there is no such folder, or it has no subfolders with images.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from sktransfer.inputs import image_folder
    >>> folder = Path(tempfile.mkdtemp())
    >>> for label in ("cat", "dog"):
    ...     (folder / label).mkdir()
    ...     Image.new("RGB", (40, 30)).save(folder / label / "1.png")
    >>> paths, labels = image_folder(folder)
    >>> sorted(labels.tolist())
    ['cat', 'dog']
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(
            f"`path` must be a folder. Got {str(path)!r}, which is none; relative "
            f"paths start at {os.getcwd()!r}."
        )
    found = [
        (str(file), kind.name)
        for kind in sorted(folder.iterdir())
        if kind.is_dir() and not kind.name.startswith(".")
        for file in _images_in(kind)
    ]
    if not found:
        raise ValueError(
            "`path` must hold a subfolder of images for each class. Got "
            f"{str(path)!r}, in which there is none."
        )
    order = check_random_state(random_state).permutation(len(found))
    paths, labels = (np.array(column)[order] for column in zip(*found, strict=True))
    return paths, labels


def _images_in(folder):
    """Return the image files below a folder in the order of their names (list)."""
    known = Image.registered_extensions()
    return [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in known
        and not file.name.startswith(".")
        and file.is_file()
    ]
