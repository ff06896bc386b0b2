"""The features of many samples as a Parquet file, written in parts."""

from __future__ import annotations

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
            if _key_of(parts[-1], parquet) != of_part:
                features = compute(part, tell=partial(_collect, reasons, first))
                table = _table(part, features, names, has_paths)
                _write_whole(parts[-1], [table], {_KEY: of_part}, parquet)
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


def _collect(reasons, first, of_part, part):
    """Add the reasons why samples of a part cannot be read, by position in all."""
    reasons.update({first + i: reason for i, reason in of_part.items()})


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


def _key_of(path, parquet):
    """Return the key of a part; None if it is missing or broken."""
    from pyarrow import ArrowInvalid

    with suppress(FileNotFoundError, ArrowInvalid):
        return (parquet.read_schema(path).metadata or {}).get(_KEY)
    return None


def _write_whole(path, tables, metadata, parquet):
    """Write tables to a file that appears under its name once it is complete."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    writer = None
    try:
        for table in tables:
            table = table.replace_schema_metadata(
                {k: v for k, v in table.schema.metadata.items() if k != _KEY} | metadata
            )
            writer = writer or parquet.ParquetWriter(draft, table.schema)
            writer.write_table(table)
        writer.close()
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
