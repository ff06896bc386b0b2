"""What identifies a sample: sixteen bytes of its file, or of its pixels."""

import hashlib
from dataclasses import dataclass

from sktransfer.inputs._deep import is_deep, is_deep_by_head
from sktransfer.utils import DIGEST_SIZE, FileMemory, digest

__all__ = ["Content", "content_of", "digest_image", "file_content"]

# Without any of these, a JPEG, PNG, GIF, BMP or WebP file does not say how to turn it.
_TAGS = (b"Exif", b"exif", b"eXIf", b"EXIF", b"adobe", b"Orientation")


@dataclass(frozen=True)
class Content:
    """What the bytes of an encoded image say.

    Attributes
    ----------
    digest : bytes
        Of the bytes.
    is_deep : bool
        Whether the image has one channel of more than 8 bits, so that a value range
        decides what it looks like.
    is_lying : bool
        Whether the bytes may hold an orientation, and it is not applied.
    """

    digest: bytes
    is_deep: bool
    is_lying: bool

    def identify(self, value_range):
        """Return the digest of the image that is made of the bytes.

        Parameters
        ----------
        value_range : tuple of float (low, high) or None
            It counts for deep images alone.

        Returns
        -------
        bytes
            The digest of the bytes where nothing else decides the pixels.
        """
        others = []
        if self.is_deep:
            limits = value_range and tuple(map(float, value_range))
            others.append(f"value_range={limits}")
        if self.is_lying:
            others.append("as it lies")
        return digest(self.digest, *others) if others else self.digest


def digest_image(image):
    """Hash the pixels of an RGB image, and its size (bytes)."""
    return digest(b"RGB %d x %d:" % image.size + image.tobytes())


def content_of(data, upright=True):
    """Return what some encoded bytes say.

    Parameters
    ----------
    data : bytes
    upright : bool, default=True
        Whether the orientation is applied.

    Returns
    -------
    Content
    """
    found = hashlib.blake2b(data, digest_size=DIGEST_SIZE).digest()
    return Content(found, is_deep(data), not upright and _may_be_turned(data))


def _may_be_turned(data):
    return is_deep_by_head(data) is None or any(tag in data for tag in _TAGS)


def _content_of_file(file, upright):
    return content_of(file.read(), upright)


_known = FileMemory(_content_of_file)


def file_content(path, upright=True):
    """Return what the bytes of a file say, read again only if the file has changed.

    Parameters
    ----------
    path : str
    upright : bool, default=True
        Whether the orientation is applied.

    Returns
    -------
    Content
    """
    return _known(path, upright)
