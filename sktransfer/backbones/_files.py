"""Download of weights, checks of their hashes, and reading without running code."""

import hashlib
import logging
import os
import pickle
import re
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

_logger = logging.getLogger("sktransfer")
_TIMEOUT = 20.0  # seconds until a server must answer
_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


def sha256_in_name(name: str) -> str:
    """Return the first digits of the SHA-256 in a name like ``"net-f37072fd.pth"``.

    The text is empty if the name has none.
    """
    found = _IN_NAME.search(name)
    return found[1] if found else ""


def check_weights_file(
    name: str, path: str, sha256: str, hint: str = "Delete it to download it again"
) -> None:
    """Raise a ValueError if a file of weights does not have its SHA-256.

    ``sha256`` is its beginning in hexadecimal digits, or "" if it is not known.
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


def hub_file(url: str) -> str:
    """Return the path at which torch.hub keeps the file of a URL."""
    name = os.path.basename(urllib.parse.urlsplit(url).path)
    return os.path.join(torch.hub.get_dir(), "checkpoints", name)


def fetch_weights(name: str, url: str) -> str:
    """Return the path of a file in torch.hub's folder, after a download if needed.

    Raises a ValueError if the file does not have the SHA-256 in its name, and an
    OSError with instructions if it cannot be downloaded.
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


def _download(url: str, path: str, sha256: str) -> None:
    """Download a file; it appears at its path when it is complete."""
    # torch.hub has no timeout, and accepts a file that ends too early.
    request = urllib.request.Request(url, headers={"User-Agent": "torch.hub"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        expected = answer.headers.get("Content-Length")
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        part = os.path.join(folder, "part")
        torch.hub.download_url_to_file(url, part, sha256 or None, progress=False)
        size = os.path.getsize(part)
        if expected is not None and size != int(expected):
            raise OSError(f"got {size} of {expected} bytes")
        os.replace(part, path)


@contextmanager
def explain_download(name: str, url: str, path: str | None = None) -> Iterator[None]:
    """Turn a failed download into an OSError that says which file to put where.

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


def title_of(weights: str | os.PathLike | Mapping) -> str:
    """Return the title of a checkpoint in messages."""
    if isinstance(weights, Mapping):
        return "The state dict in `weights`"
    return f"The checkpoint {os.fspath(weights)!r}"


def read_state_dict(weights: str | os.PathLike | Mapping) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint, or check those of a state dict.

    Names of tensors in nested mappings, as in ``{"state_dict": {...}, "epoch": 3}``,
    begin with the names of the mappings: ``"state_dict.fc.bias"``. Raises a
    FileNotFoundError if there is no such file, and a ValueError if it cannot be read or
    holds anything but plain tensors by name.
    """
    title = title_of(weights)
    state = weights if isinstance(weights, Mapping) else read_mapping(weights)
    if not isinstance(state, Mapping) or not state:
        raise ValueError(f"{title} holds no weights by name.")
    if any(isinstance(value, Mapping) for value in state.values()):
        state = dict(_nested(state))
        if not state:
            raise ValueError(f"{title} holds no weights by name.")
    _check_tensors(state, title)
    return dict(state)


def _check_tensors(state, title):
    strangers = [
        k
        for k, v in state.items()
        if not isinstance(k, str) or not isinstance(v, torch.Tensor)
    ]
    if strangers:
        raise ValueError(
            f"{title} holds {strangers[:3]}, which are not tensors by name."
        )
    special = [
        k
        for k, v in state.items()
        if v.is_meta or v.is_quantized or v.layout != torch.strided
    ]
    if special:
        raise ValueError(
            f"{title} holds {special[:3]}, which are quantised, sparse or without "
            "values (on the meta device). Its tensors must be plain ones."
        )


def read_mapping(path: str | os.PathLike) -> Mapping:
    """Read the content of a file of weights on the CPU, without running code in it.

    That is a ``.safetensors`` file or one that ``torch.load(weights_only=True)`` reads.
    """
    path, title = os.fspath(path), title_of(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no checkpoint file {path!r}.")
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{title} is not plain weights, and nothing else is loaded "
            "since a pickle can run code. Save it again with "
            f"`torch.save(model.state_dict(), path)` or as safetensors. ({error})"
        ) from error
    except Exception as error:
        raise ValueError(
            f"{title} cannot be read; it may be truncated or of "
            f"another kind. ({type(error).__name__}: {error})"
        ) from error


def _nested(state, prefix=""):
    """Yield the names and tensors of nested mappings, and nothing else."""
    for key, value in state.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, Mapping):
            yield from _nested(value, f"{prefix}{key}.")
        elif isinstance(value, torch.Tensor):
            yield prefix + key, value
