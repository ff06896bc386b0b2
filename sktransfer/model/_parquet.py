"""The features of many samples as a Parquet file, written in parts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from sktransfer.activations import digest_samples
from sktransfer.inputs import warn_of_unreadable
from sktransfer.model._onnx import check_path
from sktransfer.utils import digest, import_optional

_KEY = b"sktransfer.key"
_UNREADABLE = b"sktransfer.unreadable"
_OF_PART = (_KEY, _UNREADABLE)
_NAME = "sample"  # of the index, which holds the paths


def write_features(
    path: str | os.PathLike,
    samples: Any,
    compute: Callable,
    names: np.ndarray,
    key: bytes,
    *,
    chunk_size: int,
) -> Path:
    """Write features part by part, and then all parts as one Parquet file.

    Parts are written to a folder beside the file. Each holds the key of what its rows
    depend on, `key` and the content of the samples, so that a part of an earlier call
    is found again, and never taken for that of other samples. The file appears under
    its name once it is complete. A lock in the folder keeps out other writers.

    Parameters
    ----------
    path : str or os.PathLike
    samples : Samples or VectorSamples
    compute : callable
        From some of the samples to their features (n, n_features). Its parameter
        ``tell`` is that of :meth:`FittedModel.features`.
    names : ndarray of shape (n_features,), str
        Names of the columns.
    key : bytes
        What the features depend on, besides the samples.
    chunk_size : int
        Samples per part.

    Returns
    -------
    pathlib.Path
    """
    import_optional("pyarrow", feature="`transform_to`", extra="parquet")
    from pyarrow import parquet

    path = check_path(path, "features.parquet").absolute()
    folder = path.with_name(f".{path.name}.parts")
    has_paths = any(samples.name(i) is not None for i in range(len(samples)))
    reasons: dict[int, str] = {}
    with _only_writer(path, folder):
        parts = []
        for first in range(0, len(samples), chunk_size):
            part = samples.take(slice(first, first + chunk_size))
            parts.append(folder / f"{first:012d}.parquet")
            of_part = _key(part, names, key, has_paths)
            known = _metadata(parts[-1], parquet)
            if known.get(_KEY) != of_part:
                unreadable: dict[int, str] = {}
                features = compute(part, tell=partial(_collect, unreadable))
                table = _table(part, features, names, has_paths)
                known = {_KEY: of_part, _UNREADABLE: json.dumps(unreadable).encode()}
                _write_whole(parts[-1], [table], known, parquet)
            for i, reason in json.loads(known[_UNREADABLE]).items():
                reasons[first + int(i)] = reason
        tables = (parquet.read_table(part) for part in parts)
        _write_whole(path, tables, {}, parquet)
        for file in folder.glob("*.parquet*"):
            file.unlink()
    if reasons:
        warn_of_unreadable(reasons, samples)
    return path


@contextmanager
def _only_writer(path, folder):
    """Lock the folder of the parts, which is made here and removed if it is empty."""
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / "lock", timeout=0)
    try:
        with lock:
            yield
    except Timeout as error:
        raise RuntimeError(
            f"Another call of `transform_to` is writing {str(path)!r}. Wait until it "
            "is done, or write to another file."
        ) from error
    with suppress(OSError):  # as where another call has begun
        os.unlink(lock.lock_file)
    with suppress(OSError):
        folder.rmdir()


def _collect(reasons, found, part):
    """Add the reasons why samples of a part cannot be read, by position in it."""
    reasons.update({int(i): reason for i, reason in found.items()})


def _key(samples, names, key, has_paths):
    """Return a hash of what the rows of a part depend on (bytes).

    Samples that cannot be read may be mended, so such a part is found by no later call.
    """
    digests = digest_samples(samples, {})
    if None not in digests:
        samples.digests = digests  # so that they are not hashed again
    unreadable = os.urandom(16) if None in digests else b""
    columns = "\n".join([*names, _NAME * has_paths])
    return digest(key, columns, *filter(None, digests), unreadable)


def _table(samples, features, names, has_paths):
    """Return features as a table of pyarrow, with the paths, if any, as its index."""
    import pyarrow

    frame = pd.DataFrame(features, columns=names)
    fields = [pyarrow.field(str(name), pyarrow.float32()) for name in names]
    if has_paths:
        paths = [samples.name(i) for i in range(len(samples))]
        frame.index = pd.Index(paths, name=_NAME, dtype=object)
        fields.append(pyarrow.field(_NAME, pyarrow.string()))
    schema = pyarrow.schema(fields)
    return pyarrow.Table.from_pandas(frame, schema, preserve_index=has_paths)


def _metadata(path, parquet):
    """Return what a part says of itself (dict); it is empty if it is broken or missing.

    These are its key, and why samples could not be read, in JSON by position.
    """
    from pyarrow import ArrowInvalid

    with suppress(FileNotFoundError, ArrowInvalid):
        return parquet.read_schema(path).metadata or {}
    return {}


def _write_whole(path, tables, metadata, parquet):
    """Write tables to a file that appears under its name once it is complete."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    writer = None
    try:
        for table in tables:
            table = table.replace_schema_metadata(
                {k: v for k, v in table.schema.metadata.items() if k not in _OF_PART}
                | metadata
            )
            writer = writer or parquet.ParquetWriter(draft, table.schema)
            writer.write_table(table)
        writer.close()
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
