"""Images as rows of pixels, for baselines without a network."""

from typing import Any

import numpy as np
from PIL import Image

from sktransfer.inputs._modality import MODALITIES

_SIZE = (16, 16)  # pixels


def thumbnails(X: Any, **options: Any) -> np.ndarray:
    """Return the pixels of thumbnails (n_samples, 768), uint8.

    X may be all that estimators take, with their `image_shape` and `value_range`.
    """
    samples = MODALITIES["image"].read(X, None, **options)
    images = (samples[i].convert("RGB") for i in range(len(samples)))
    return np.stack([np.ravel(i.resize(_SIZE, Image.Resampling.BOX)) for i in images])
