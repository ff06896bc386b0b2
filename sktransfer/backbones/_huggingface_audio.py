"""Backbones of transformers for recordings, by name or from a local folder."""

import json
import os
from typing import Any

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._library import OPTIONS, make_network
from sktransfer.backbones._speech import SPEECH_TYPES, n_after, staged_speech
from sktransfer.inputs import AudioPreprocessing
from sktransfer.inputs.audio._library_front_ends import LibrarySpectrum, PlainWaveform
from sktransfer.utils import import_optional

_MOST_SECONDS = 30.0  # of waveforms, whose layers compare all positions


def takes_recordings(source: str) -> bool:
    """Return whether a folder or a repository holds a network for recordings.

    A repository that is not on this machine is asked for its configuration.
    """
    path = os.path.join(source, "config.json")
    if not os.path.isfile(path):
        path = _cached_config(source)
    if path is None:
        return False
    with open(path, encoding="utf-8") as file:
        return json.load(file).get("model_type") in SPEECH_TYPES


def _cached_config(source):
    """Return the path of the configuration of a repository; None without it."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        found = try_to_load_from_cache(source, "config.json")
        return (
            found if isinstance(found, str) else hf_hub_download(source, "config.json")
        )
    except (HFValidationError, HfHubHTTPError, OSError, ValueError):
        return None


def load_audio_backbone(source: str, *, weights: str | None, make: Any) -> Backbone:
    """Load a network of transformers for recordings and its front end.

    Parameters
    ----------
    source : str
        Name of a repository, or path of a folder.
    weights : str or None
        ``"default"``, or None for random ones.
    make : callable
        Calls a function under a local seed.
    """
    for module in ("soundfile", "soxr"):
        import_optional(module, feature=f"{source!r}", extra="audio")
    library = import_optional("transformers", feature=f"{source!r}", extra="audio")
    extractor = library.AutoFeatureExtractor.from_pretrained(source, **OPTIONS)
    config = library.AutoConfig.from_pretrained(source, **OPTIONS)
    model = make(lambda: make_network(library, source, config, weights))
    preprocessing = _preprocessing(extractor, model.config)
    # Older versions of torch draw numbers for layers whose weights are replaced.
    staged = make(lambda: staged_speech(model, preprocessing.example(3)))
    return Backbone(
        staged,
        preprocessing=preprocessing,
        weights=None if weights is None else "default",
        name=source,
    )


def _preprocessing(extractor, config):
    """Return the preprocessing of a feature extractor of transformers."""
    rate = extractor.sampling_rate
    if hasattr(config, "conv_kernel"):
        steps = [*zip(config.conv_kernel, config.conv_stride, strict=True)]
        hop = 1
        for _, stride in steps:
            hop *= stride
        window = next(n for n in range(1, rate) if n_after(n, steps) == 1)
        front_end = PlainWaveform(window, hop, bool(extractor.do_normalize))
        return AudioPreprocessing(rate, front_end, max_seconds=_MOST_SECONDS)
    if hasattr(extractor, "chunk_length"):
        seconds = float(extractor.chunk_length)
    else:
        seconds = extractor.max_length / 100  # frames, one per 10 ms
    content = json.dumps(extractor.to_dict(), sort_keys=True)
    return AudioPreprocessing(rate, LibrarySpectrum(content), max_seconds=seconds)
