"""A warning about features that are not finite."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from sktransfer.utils import warn_caller


def warn_of_non_finite(
    features: np.ndarray, samples: Any, unreadable: Collection[int] | None, name: str
) -> None:
    """Warn if a network computed NaN or infinity for samples that were read.

    ``features`` has shape (n_samples, d); ``unreadable`` holds the indices of samples
    whose features are NaN for another reason, if any; ``name`` is that of the network.
    """
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    bad = np.setdiff1d(bad, [*(unreadable or ())])
    if len(bad):
        warn_caller(
            f"{name} computes NaN or infinity for {len(bad)} of {len(features)} "
            f"samples, the first of which is {samples.describe(int(bad[0]))}. All of "
            "them were read, so look at the layers of the network, such as logarithms "
            "and divisions, its weights, and what its preprocessing returns."
        )
