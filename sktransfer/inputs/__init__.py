"""Conversion of raw samples to the inputs of a model.

Each modality is a package: `audio`, `images`, `multichannel`, `texts` and `vectors`.
`as_samples` puts any X behind one lazy interface, `iter_batches` reads and prepares
samples in batches, and a preprocessing, which comes with the weights, makes model
inputs of the batches.
"""

from sktransfer.inputs._augmented import AugmentedSamples
from sktransfer.inputs._custom import as_run, preprocessing_key, try_preprocessing
from sktransfer.inputs._modality import (
    MODALITIES,
    Modality,
    UnreadableSampleError,
    list_modalities,
    register_modality,
)
from sktransfer.inputs._preprocessing import Preprocessing
from sktransfer.inputs._reading import (
    as_samples,
    find_unreadable,
    iter_batches,
    modality_of,
    to_numpy,
    warn_of_unreadable,
)
from sktransfer.inputs._rows import labels_of, select_rows
from sktransfer.inputs.audio._audio import Audio
from sktransfer.inputs.audio._front_ends import FrontEnd, LogMel
from sktransfer.inputs.audio._preprocessing import AudioPreprocessing
from sktransfer.inputs.audio._waveforms import Waveform
from sktransfer.inputs.images._columns import image_column
from sktransfer.inputs.images._enlarged import median_image_size, tell_enlargement
from sktransfer.inputs.images._folder import image_folder
from sktransfer.inputs.images._images import Images
from sktransfer.inputs.images._preprocessing import ImagePreprocessing
from sktransfer.inputs.images._samples import Samples, open_image
from sktransfer.inputs.images._tar import image_tar
from sktransfer.inputs.multichannel._multichannel import Multichannel
from sktransfer.inputs.multichannel._preprocessing import MultichannelPreprocessing
from sktransfer.inputs.texts._augment import WordDropout
from sktransfer.inputs.texts._preprocessing import TextPreprocessing
from sktransfer.inputs.texts._texts import Texts
from sktransfer.inputs.vectors._vectors import VectorPreprocessing, VectorSamples

__all__ = [
    "AudioPreprocessing",
    "ImagePreprocessing",
    "LogMel",
    "Modality",
    "MultichannelPreprocessing",
    "Preprocessing",
    "TextPreprocessing",
    "UnreadableSampleError",
    "VectorPreprocessing",
    "Waveform",
    "WordDropout",
    "image_column",
    "image_folder",
    "image_tar",
    "list_modalities",
    "register_modality",
]
