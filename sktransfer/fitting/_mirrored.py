"""Whether mirror images are no images of their classes."""

from __future__ import annotations

import numpy as np
import torch

from sktransfer.activations import Activations
from sktransfer.fitting._boundary import rows_to_probe
from sktransfer.training import Network, are_strange, exchanged_classes, predict_views


def why_not_mirrored(
    network: Network,
    originals: Activations,
    views: Activations,
    y: torch.Tensor,
    classes: np.ndarray,
    batch_size: int,
) -> str | None:
    """Return why views of samples are no samples of their classes, or None.

    The network has pretrained or trained stages, and need not have a head. At most
    1,000 samples of classes y (n_samples,) pass through it.
    """
    rows = rows_to_probe(len(y))
    parts = np.array_split(rows, -(-len(rows) // batch_size))
    of_samples, of_views = (
        np.concatenate([network.features(seen[part], batch_size) for part in parts])
        for seen in (originals, views)
    )
    present, codes = np.unique(y[rows], return_inverse=True)
    if not (np.isfinite(of_samples).all() and np.isfinite(of_views).all()):
        return None  # the training raises an error that says so
    found = predict_views(of_samples, of_views, codes)
    pair = exchanged_classes(found, codes)
    if pair is not None:
        one, other = classes[present[[*pair]]].tolist()
        return f"{one!r} would look like {other!r}"
    if not are_strange(found, codes):
        return None
    right, as_right = (found == codes).mean(axis=1)
    return (
        f"the network recognises {as_right:.0%} of the mirror images, and {right:.0%} "
        "of the images"
    )
