"""Download files of weights with torch.hub, and say what to do where that fails."""

import hashlib
import logging
import os
import re
import tempfile
import urllib.parse
import urllib.request
from contextlib import contextmanager

import torch

__all__ = [
    "check_weights_file",
    "explain_download",
    "fetch_weights",
    "hub_file",
    "sha256_in_name",
]

_logger = logging.getLogger("sktransfer")
_TIMEOUT = 20.0  # seconds until a server must answer
_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


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


def check_weights_file(name, path, sha256, hint="Delete it to download it again"):
    """Raise a ValueError if a file of weights does not have its SHA-256.

    ``sha256`` is the beginning of it in hexadecimal digits, or "" if it is not known.
    """
    if not sha256:
        return
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(sha256):
        raise ValueError(
            f"The file {path!r} does not hold the weights of {name!r}: its SHA-256 "
            f"should be {sha256} and is {found[: len(sha256)]}. {hint}, or pass "
            f"weights={path!r} to take it as it is."
        )


def hub_file(url):
    """Return where torch.hub keeps, or would keep, the file of a URL (str)."""
    name = os.path.basename(urllib.parse.urlsplit(url).path)
    return os.path.join(torch.hub.get_dir(), "checkpoints", name)


def fetch_weights(name, url):
    """Return a file in torch.hub's folder (str), downloaded if it is not there.

    Its SHA-256 is the one in its name if that has one: otherwise a ValueError is
    raised. If it cannot be downloaded, an OSError says what to put where.
    """
    path = hub_file(url)
    sha256 = sha256_in_name(path)
    if os.path.isfile(path):
        check_weights_file(name, path, sha256)
        return path
    _logger.info("downloading %s to %s", url, path)
    with explain_download(name, url, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _download(url, path, sha256)
    return path


def _download(url, path, sha256):
    """Download a file, which is at its path as a whole or not at all."""
    # torch.hub waits for ever for a server that does not answer, and takes a file that
    # ends too early.
    request = urllib.request.Request(url, headers={"User-Agent": "torch.hub"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        expected = answer.headers.get("Content-Length")
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        part = os.path.join(folder, "part")
        torch.hub.download_url_to_file(url, part, sha256 or None, progress=False)
        size = os.path.getsize(part)
        if expected is not None and size != int(expected):
            raise OSError(f"{size} bytes came of {expected}")
        os.replace(part, path)


@contextmanager
def explain_download(name, url, path=None):
    """Turn any failure of a download into an OSError that says what to put where.

    ``path`` is where the file is looked for, if it can be put there by hand.
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
