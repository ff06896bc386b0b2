"""Some of the rows of any X, and the labels that come with X, before it is read."""

from typing import Any

import numpy as np
import torch

from sktransfer.inputs._modality import MODALITIES


def select_rows(X: Any, rows: np.ndarray) -> Any:
    """Return samples of X in its type; consecutive samples are not copied."""
    if isinstance(X, torch.utils.data.Dataset):
        return torch.utils.data.Subset(X, rows.tolist())
    if hasattr(X, "tocsr"):  # most sparse formats have no rows to select
        return X.tocsr()[rows]
    kept: Any = rows
    if len(rows) and rows[0] >= 0 and (np.diff(rows) == 1).all():
        kept = slice(rows[0], rows[-1] + 1)
    if hasattr(X, "iloc"):
        return X.iloc[kept]
    if isinstance(X, list | tuple):
        return X[kept] if isinstance(kept, slice) else [X[i] for i in rows]
    return (X if hasattr(X, "__getitem__") else np.asarray(X))[kept]


def labels_of(X: Any) -> np.ndarray | None:
    """Return the labels of a Dataset, or of a list of pairs; otherwise None."""
    is_pairs = isinstance(X, list) and len(X) and isinstance(X[0], tuple)
    if not (is_pairs or isinstance(X, torch.utils.data.Dataset)):
        return None
    return MODALITIES["image"].read(X, None).labels
