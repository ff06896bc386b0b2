"""Preprocessings of a user's own that tests share."""

import numpy as np

from sktransfer.inputs import ImagePreprocessing, VectorPreprocessing

GIVEN = {
    "size": (8, 8),
    "resize": 8,
    "interpolation": "bilinear",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
}


class Standardises(ImagePreprocessing):
    """Mixes the images of a batch."""

    def to_input(self, batch):
        x = super().to_input(batch)
        return (x - x.mean()) / x.std()


class StandardisesRows(VectorPreprocessing):
    """Mixes the rows that are read at a time."""

    def prepare(self, row):
        return super().prepare(row) - np.mean(row)
