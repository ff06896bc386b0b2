"""Fetch files of weights, whole or not at all, and say what to do where that fails."""

import hashlib
import logging
import os
import re
import shutil
import urllib.parse
import urllib.request
import uuid
from contextlib import contextmanager

import torch

__all__ = [
    "check_weights_file",
    "download",
    "explain_download",
    "fetch_weights",
    "hub_file",
    "sha256_in_name",
]

_logger = logging.getLogger("sktransfer")
_TIMEOUT = 20.0  # seconds without a byte
_CHUNK = 2**20
_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


def download(url, path, sha256=""):
    """Fetch a file; it is at its path as a whole or not at all.

    Redirects are followed. Whatever fails leaves nothing behind.

    Parameters
    ----------
    url : str
    path : str
        Its folder is made if need be.
    sha256 : str, default=""
        What the hexadecimal SHA-256 of the content must begin with.

    Raises
    ------
    OSError
        If the server answers with an error, with another number of bytes than it says,
        or not at all for 20 s, or if the file cannot be written.
    ValueError
        If the content is another one, or the URL is of no web server.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    part = f"{path}.{uuid.uuid4().hex}.part"
    _logger.info("downloading %s to %s", url, path)
    try:
        with open(part, "xb") as file:
            _fetch(url, file)
            file.flush()
            os.fsync(file.fileno())
        _check_sha256(part, sha256)
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.remove(part)


def _fetch(url, file):
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"the URL must be one of http or https; got {url!r}")
    request = urllib.request.Request(url, headers={"User-Agent": "sktransfer"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            shutil.copyfileobj(answer, file, _CHUNK)
            expected = answer.headers.get("Content-Length")
    except OSError as error:
        if isinstance(getattr(error, "reason", error), TimeoutError):
            raise TimeoutError(f"no byte came for {_TIMEOUT:g} s") from error
        raise
    if expected is not None and file.tell() != int(expected):
        raise OSError(f"{file.tell()} bytes came of {expected}")


def sha256_in_name(name):
    """Return the beginning of the SHA-256 that a file's name carries (str).

    Empty if it carries none.

    Examples
    --------
    >>> from sktransfer.backbones._download import sha256_in_name
    >>> sha256_in_name("resnet18-f37072fd.pth")
    'f37072fd'
    """
    found = _IN_NAME.search(name)
    return found[1] if found else ""


def _check_sha256(path, sha256):
    if not sha256:
        return
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(sha256):
        raise ValueError(
            f"its SHA-256 should be {sha256} and is {found[: len(sha256)]}"
        )


def check_weights_file(name, path, sha256, hint="Delete it to download it again"):
    """See that a file of weights that was here already is whole.

    Parameters
    ----------
    name : str
        Of the backbone.
    path : str
    sha256 : str
        What the hexadecimal SHA-256 of the file must begin with; "" if it is not known.
    hint : str, default="Delete it to download it again"
        What to do.

    Raises
    ------
    ValueError
        If it is another file.
    """
    try:
        _check_sha256(path, sha256)
    except ValueError as error:
        raise ValueError(
            f"The file {path!r} does not hold the weights of {name!r}: {error}. "
            f"{hint}, or pass weights={path!r} to take it as it is."
        ) from error


def hub_file(url):
    """Return where torch.hub keeps, or would keep, the file of a URL.

    Parameters
    ----------
    url : str

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the last part of its path is no name of a file.
    """
    name = urllib.parse.urlsplit(url).path.rpartition("/")[2]
    if name in ("", ".", "..") or "\\" in name or "\0" in name:
        raise ValueError(f"The path of a URL must end with a file's name. Got {url!r}.")
    return os.path.join(torch.hub.get_dir(), "checkpoints", name)


def fetch_weights(name, url):
    """Return a file of weights in torch.hub's folder, fetched if it is not there.

    Parameters
    ----------
    name : str
        Of the backbone.
    url : str

    Returns
    -------
    str
        Path of the file, whose SHA-256 is the one in its name if that has one.

    Raises
    ------
    OSError
        If it cannot be fetched.
    ValueError
        If there is another file in its place, or the URL names none.
    """
    path = hub_file(url)
    sha256 = sha256_in_name(path)
    if os.path.isfile(path):
        check_weights_file(name, path, sha256)
        return path
    with explain_download(name, url, path):
        download(url, path, sha256)
    return path


@contextmanager
def explain_download(name, url, path=None):
    """Turn any failure of a download into one that says what to put where.

    Parameters
    ----------
    name : str
        Of the backbone.
    url : str
        What was asked for.
    path : str, default=None
        Where the file is looked for, if it can be put there by hand.

    Raises
    ------
    OSError
        In place of whatever was raised.
    """
    try:
        yield
    except Exception as error:
        where = (
            f"put that file at {path} or" if path else "fetch that file elsewhere and"
        )
        raise OSError(
            f"The weights of {name!r} could not be downloaded from {url} "
            f"({type(error).__name__}: {str(error).strip()[:300]}). Without a network, "
            f"{where} pass its path, as in weights='path/{os.path.basename(url)}'. "
            "backbone='efficientnet_lite0' needs no download: its weights are "
            "installed with sktransfer."
        ) from error
