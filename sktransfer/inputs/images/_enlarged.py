"""How much small images are enlarged, and what size would do."""

from typing import Any

import numpy as np

from sktransfer.inputs._modality import UnreadableSampleError

_N_SIZES = 16  # maximum number of samples that are looked at
_FACTOR = 3  # of the sides, from which on a smaller size may do
_LEAST = 64  # px, of the sizes that are suggested


def median_image_size(samples: Any, preprocessing: Any) -> tuple[int, ...] | None:
    """Return the median height and width of some images; None for other modalities."""
    if not preprocessing.is_image:
        return None
    sizes = [samples[i].size[::-1] for i in range(min(len(samples), _N_SIZES))]
    return tuple(int(side) for side in np.median(sizes, axis=0))


def tell_enlargement(samples: Any, preprocessing: Any) -> None:
    """Print what size would do for images much smaller than the model input, if any.

    Nothing is printed if one of the first samples cannot be read.
    """
    try:
        size = median_image_size(samples, preprocessing)
    except UnreadableSampleError:
        return
    if size is None:
        return
    h, w = preprocessing.size
    smaller = max(_LEAST, 32 * -(-2 * max(size) // 32))
    if min(h, w) < _FACTOR * max(size) or smaller >= min(h, w):
        return
    share = h * w / smaller**2
    print(
        f"The images, of {size[0]} x {size[1]} px, are enlarged to {h} x {w} px. "
        f"`image_size={smaller}` would take about 1/{share:.0f} of the time; see the "
        "user guide on inputs for what it may cost in accuracy."
    )
