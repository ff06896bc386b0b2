"""Prepared samples of equal shape as a batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def stacked(prepared: list, pin_memory: bool = False) -> Any:
    """Return arrays, or dicts of such, as one tensor or a dict of such, (b, ...)."""
    first = prepared[0]
    if isinstance(first, Mapping):
        return {
            name: stacked([group[name] for group in prepared], pin_memory)
            for name in first
        }
    dtype = torch.from_numpy(np.empty(0, first.dtype)).dtype
    shape = (len(prepared), *first.shape)
    batch = torch.empty(shape, dtype=dtype, pin_memory=pin_memory)
    np.stack(prepared, out=batch.numpy())
    return batch
