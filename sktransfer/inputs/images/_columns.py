"""Images of a column: of Parquet files, by row groups, and of Hugging Face datasets."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from sktransfer.compute import fork_lock
from sktransfer.inputs.images._stored import ImageSource
from sktransfer.utils import import_optional

# Images in memory, at least, in two row groups or more: a pass reads batches ahead.
_KEPT = 128
_lock = fork_lock(globals(), "_lock")


def image_column(
    table: str | os.PathLike | Iterable[str | os.PathLike] | Any, column: str
) -> np.ndarray:
    """List the encoded images in a column of a table, without reading them.

    Parameters
    ----------
    table : str, os.PathLike, iterable of these, or Dataset
        Parquet files, by path or by a URL that fsspec knows, or a dataset of the
        library `datasets` of Hugging Face that has a length. Parquet files are read by
        row group, of which a few are kept in memory, so read them in their order.
    column : str
        Name of the column. It holds the bytes of image files, or the dicts of ``bytes``
        and ``path`` in which the library `datasets` stores images. A mode that the
        dataset would convert them to is not applied.

    Returns
    -------
    images : ndarray of shape (n_rows,), object
        References to the images, to be passed as X. They are small when pickled, as
        long as the dataset is.

    Raises
    ------
    TypeError
        If a dataset has no length.
    ValueError
        If there is no such column, or a Parquet column of another type.

    See Also
    --------
    image_tar : For tar files.

    Examples
    --------
    >>> import io, tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from PIL import Image
    >>> from sktransfer.inputs import image_column
    >>> def png(red):
    ...     file = io.BytesIO()
    ...     Image.new("RGB", (40, 30), (red, 0, 0)).save(file, "png")
    ...     return file.getvalue()
    >>> path = Path(tempfile.mkdtemp()) / "train.parquet"
    >>> table = pd.DataFrame({"image": [*map(png, range(9))], "label": range(9)})
    >>> table.to_parquet(path, row_group_size=3)
    >>> images = image_column(path, "image")
    >>> images[4]
    StoredImage('.../train.parquet, row 4')
    >>> labels = pd.read_parquet(path, columns=["label"])["label"]
    """
    if hasattr(table, "features"):
        return DatasetImages(table, column).images()
    paths = [table] if isinstance(table, (str, os.PathLike)) else table
    return ParquetImages([os.fspath(path) for path in paths], column).images()


def is_dataset_column(X: Any) -> bool:
    """Return whether X is a column of a Hugging Face dataset, ``dataset[name]``."""
    dataset = getattr(X, "source", None)
    return hasattr(X, "column_name") and hasattr(dataset, "cast_column")


def images_of_column(X: Any) -> np.ndarray:
    """Return references to the images of a column of a dataset."""
    return DatasetImages(X.source, X.column_name).images()


class DatasetImages(ImageSource):
    """Images of a column of a dataset of Hugging Face."""

    def __init__(self, dataset: Any, column: str):
        if not hasattr(dataset, "__len__"):
            raise TypeError(
                f"A dataset must have a length. Got {type(dataset).__name__}; load it "
                "without `streaming=True`: its files are read when they are needed."
            )
        _check_column(column, dataset.features, "the dataset")
        feature = dataset.features[column]
        if getattr(feature, "decode", False):
            dataset = dataset.cast_column(column, type(feature)(decode=False))
        self._rows = dataset.select_columns([column])
        self._column = column

    def __len__(self):
        return len(self._rows)

    def read(self, i: int) -> bytes:
        """Read image `i`."""
        return _encoded(self._rows[i][self._column])

    def name(self, i: int) -> str:
        """Return the row of image `i`."""
        return f"row {i} of the dataset"


class ParquetImages(ImageSource):
    """Images of a column of Parquet files, read by row group."""

    def __init__(self, paths: list[str], column: str):
        feature = "`image_column` of Parquet files"
        import_optional("pyarrow", feature=feature, extra="parquet")
        self._paths, self._column = paths, column
        self._groups: list[tuple[int, int]] = []  # a file and a row group of it, each
        self._file_starts, starts = [], [0]
        for number, path in enumerate(paths):
            self._file_starts.append(starts[-1])
            with _opened(path) as file:
                _check_column(column, file.schema_arrow.names, repr(path))
                _check_type(file.schema_arrow.field(column).type, column, path)
                for group in range(file.num_row_groups):
                    self._groups.append((number, group))
                    starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
        self._starts = np.array(starts)
        self._kept: OrderedDict[int, Any] = OrderedDict()  # newest last

    def __getstate__(self):
        """Return the places of the images, without those that were read."""
        return {**vars(self), "_kept": OrderedDict()}

    def __len__(self):
        return int(self._starts[-1])

    def read(self, i: int) -> bytes:
        """Read image `i`, with the other images of its row group."""
        k = int(np.searchsorted(self._starts, i, side="right")) - 1
        with _lock:
            if k not in self._kept:
                self._forget_oldest()
                self._kept[k] = self._read_group(*self._groups[k])
            self._kept.move_to_end(k)
            return _encoded(self._kept[k][i - int(self._starts[k])].as_py())

    def _forget_oldest(self):
        """Make place for another row group."""
        n_images = sum(map(len, self._kept.values()))
        while len(self._kept) > 1:
            n_images -= len(next(iter(self._kept.values())))
            if n_images < _KEPT:
                return
            self._kept.popitem(last=False)

    def _read_group(self, number, group):
        with _opened(self._paths[number]) as file:
            return file.read_row_group(group, columns=[self._column])[self._column]

    def name(self, i: int) -> str:
        """Return the path of the file, and the row of image `i` in it."""
        number = int(np.searchsorted(self._file_starts, i, side="right")) - 1
        return f"{self._paths[number]}, row {i - self._file_starts[number]}"


@contextmanager
def _opened(path):
    """Open a Parquet file, by its path or by a URL."""
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    source = path
    if "://" in path:
        fsspec = import_optional("fsspec", feature="A URL", extra="parquet")
        source = fsspec.open(path).open()
    try:
        with ParquetFile(source) as file:
            yield file
    except ArrowInvalid as error:
        raise ValueError(f"{path!r} is no Parquet file: {error}") from error
    finally:
        if source is not path:
            source.close()


def _check_column(column, names, where):
    if column not in names:
        raise ValueError(
            f"`column` must be one of the columns of {where}, {[*names]}. "
            f"Got {column!r}."
        )


def _check_type(kind, column, path):
    from pyarrow import types

    is_pair = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if not (is_pair or types.is_binary(kind) or types.is_large_binary(kind)):
        raise ValueError(
            f"`column` must hold encoded images, of type binary. Got {column!r} of "
            f"type {kind} in {path!r}; columns of paths or texts are small enough for "
            "`pandas.read_parquet`."
        )


def _encoded(value):
    """Return the bytes of an image; those of a dict may be in a file."""
    if isinstance(value, Mapping):
        path, value = value.get("path"), value.get("bytes")
        if value is None and path is not None:
            with open(path, "rb") as file:
                return file.read()
    if value is None:
        raise ValueError("the value is missing (None)")
    if not isinstance(value, bytes):
        raise TypeError(f"it is of type {type(value).__name__}, not bytes")
    return value
