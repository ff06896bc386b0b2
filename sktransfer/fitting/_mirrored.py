"""Whether the mirror images of a class are taken for those of another class."""

from __future__ import annotations

import numpy as np
import torch

from sktransfer.activations import Activations
from sktransfer.fitting._boundary import rows_to_probe
from sktransfer.training import Network, exchanged_classes


def find_exchanged(
    network: Network,
    originals: Activations,
    views: Activations,
    y: torch.Tensor,
    batch_size: int,
) -> tuple[int, int] | None:
    """Return two classes that are exchanged in views of samples, or None.

    The network has pretrained or trained stages, and need not have a head. At most
    1,000 samples of classes y (n_samples,) pass through it.
    """
    rows = rows_to_probe(len(y))
    parts = np.array_split(rows, -(-len(rows) // batch_size))
    of_samples, of_views = (
        np.concatenate([network.features(seen[part], batch_size) for part in parts])
        for seen in (originals, views)
    )
    codes = np.unique(y[rows], return_inverse=True)[1]
    if not (np.isfinite(of_samples).all() and np.isfinite(of_views).all()):
        return None  # the training raises an error that says so
    return exchanged_classes(of_samples, of_views, codes)
