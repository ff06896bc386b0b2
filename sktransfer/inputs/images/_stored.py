"""Encoded images inside of larger files, each read when it is needed."""

from abc import ABC, abstractmethod

import numpy as np

from sktransfer.inputs.images._files import Content, content_of


class ImageSource(ABC):
    """What holds many encoded images, such as a tar file or a column of a table.

    It is pickled as the place of its images, without their bytes.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def read(self, i: int) -> bytes:
        """Read image `i`; several threads may do so."""

    @abstractmethod
    def name(self, i: int) -> str:
        """Return the path of the file, and the place of image `i` in it."""

    def content(self, i: int, upright: bool) -> Content:
        """Return the hash of image `i`, by which activations are stored."""
        return content_of(self.read(i), upright)

    def images(self) -> np.ndarray:
        """Return all images as an array of `StoredImage`."""
        images = np.empty(len(self), dtype=object)
        images[:] = [StoredImage(self, i) for i in range(len(self))]
        return images


class StoredImage:
    """Reference to one encoded image of an `ImageSource`."""

    __slots__ = ("_i", "_source")

    def __init__(self, source: ImageSource, i: int):
        self._source = source
        self._i = i

    def __repr__(self):
        return f"{type(self).__name__}({self.name!r})"

    @property
    def name(self) -> str:
        """Name of the file, and the place in it (str)."""
        return self._source.name(self._i)

    def read(self) -> bytes:
        """Read the encoded image."""
        return self._source.read(self._i)

    def content(self, upright: bool = True) -> Content:
        """Return the hash of the encoded image, see `content_of`."""
        return self._source.content(self._i, upright)
