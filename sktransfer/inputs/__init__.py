"""From raw samples to the inputs of a model.

`as_samples` puts paths, arrays, PIL images, data frames and datasets behind one
lazy interface, `iter_batches` decodes and prepares them in batches, and a
preprocessing, which comes with the weights, makes the batches model inputs.
"""

from sktransfer.inputs._arrays import to_numpy
from sktransfer.inputs._augment import (
    PRESETS,
    AugmentedSamples,
    preset_augmentation,
)
from sktransfer.inputs._decode import open_image
from sktransfer.inputs._image import ImagePreprocessing
from sktransfer.inputs._loader import find_unreadable, iter_batches
from sktransfer.inputs._preprocessing_key import (
    is_describable_preprocessing,
    preprocessing_key,
)
from sktransfer.inputs._samples import Samples, as_samples
from sktransfer.inputs._unreadable import UnreadableSampleError
from sktransfer.inputs._vector import VectorPreprocessing, VectorSamples

__all__ = [
    "PRESETS",
    "AugmentedSamples",
    "ImagePreprocessing",
    "Samples",
    "UnreadableSampleError",
    "VectorPreprocessing",
    "VectorSamples",
    "as_samples",
    "find_unreadable",
    "is_describable_preprocessing",
    "iter_batches",
    "open_image",
    "preprocessing_key",
    "preset_augmentation",
    "to_numpy",
]
