"""What a sample is, in sixteen bytes."""

import hashlib
import os
import threading

from sktransfer.inputs import UnreadableSampleError

__all__ = ["digest", "digest_samples", "file_digest"]

_SIZE = 16
_lock = threading.Lock()
# Absolute path: (size, times and inode, digest).
_files: dict[str, tuple[tuple, bytes]] = {}


def digest(*parts):
    """Hash texts and bytes to 16 bytes; where one ends and the next begins counts."""
    state = hashlib.blake2b(digest_size=_SIZE)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(f"{len(data)}:".encode())
        state.update(data)
    return state.digest()


def file_digest(path):
    """Hash the bytes of a file, once as long as its size and its times stay.

    Parameters
    ----------
    path : str

    Returns
    -------
    bytes
        16 of them.
    """
    path = os.path.abspath(path)
    status = os.stat(path)
    stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    with _lock:
        known = _files.get(path)
    if known is not None and known[0] == stamp:
        return known[1]
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, _blake).digest()
    with _lock:
        _files[path] = (stamp, found)
    return found


def _blake():
    return hashlib.blake2b(digest_size=_SIZE)


def digest_samples(samples, failed=None):
    """Hash every sample by its content.

    Parameters
    ----------
    samples : Samples or VectorSamples
    failed : dict or None, default=None
        Samples that cannot be read are errors without it. With it they have None for a
        digest; by their position, the dict gets the reasons.

    Returns
    -------
    list of bytes
        16 each. Files are hashed as they are, arrays by their pixels.

    Raises
    ------
    UnreadableSampleError
        If a sample cannot be read.
    """
    if samples.digests is not None:
        return samples.digests
    digests = []
    for i in range(len(samples)):
        try:
            digests.append(_digest_sample(samples, i))
        except UnreadableSampleError as error:
            if failed is None:
                raise
            failed[i] = error.reason
            digests.append(None)
    return digests


def _digest_sample(samples, i):
    content = samples.content(i)
    if not isinstance(content, str):
        return digest(bytes(content))
    try:
        return file_digest(content)
    except OSError as error:
        raise samples.unreadable(i, error) from error
