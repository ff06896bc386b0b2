"""Backbones of torchvision, with the preprocessing of their weights."""

import os
import re
from importlib.metadata import version

from torchvision import models
from torchvision.models import VisionTransformer
from torchvision.models.vision_transformer import interpolate_embeddings

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._files import fetch_weights, hub_file, read_state_dict
from sktransfer.backbones._images import size_error
from sktransfer.backbones._registry import BackboneProvider
from sktransfer.inputs import ImagePreprocessing
from sktransfer.utils import near_matches

_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


class TorchvisionProvider(BackboneProvider):
    """Image classification models of torchvision."""

    def names(self):
        """Return the names of the models."""
        return models.list_models(module=models)

    def load(self, name, *, weights, image_size, make):
        """Make a model; ``weights`` may be a name such as ``"IMAGENET1K_V1"``."""
        found = _find_weights(name, weights)
        preprocessing = _preprocessing(found)
        size = preprocessing.with_size(image_size).size
        module = make(lambda: _make(name, size, preprocessing.size))
        if weights is not None:
            path = fetch_weights(f"torchvision/{name}", found.url)
            module.load_state_dict(self.adapt(read_state_dict(path), module))
        return Backbone(
            module,
            preprocessing=preprocessing,
            name=name,
            weights=None if weights is None else found.name,
            license=found.meta.get("license"),
        )

    def describe(self, name):
        """Return the rows about a model, that of the default weights first."""
        offered = models.get_model_weights(name)
        others = [weights for weights in offered if weights is not offered.DEFAULT]
        return [
            {
                "parameters": weights.meta["num_params"],
                "input_size": weights.transforms().crop_size[0],
                "weights": weights.name,
                "license": weights.meta.get("license"),
                "available": os.path.isfile(hub_file(weights.url)),
            }
            for weights in [offered.DEFAULT, *others]
        ]

    def card_entries(self, name, weights):
        """Return where the weights come from."""
        return {"source": f"torchvision {version('torchvision')}"}

    def adapt(self, state, network):
        """Return a checkpoint that fits a network.

        It has no auxiliary classifiers, the present names of DenseNet's layers, and
        position embeddings for the image size of the network.
        """
        state = {
            _OLD_DENSENET.sub(r"\1\2", name): tensor
            for name, tensor in state.items()
            if not name.startswith(_AUXILIARY)
        }
        if isinstance(network, VisionTransformer):
            sizes = network.image_size, network.patch_size
            state = interpolate_embeddings(*sizes, state)
        return state


def _find_weights(name, weights):
    """Return weights by name; for random ones the default ones, for preprocessing."""
    offered = models.get_model_weights(name)
    if weights in ("default", None):
        return offered.DEFAULT
    if weights in offered.__members__:
        return offered[weights]
    known = [known.name for known in offered]
    raise ValueError(
        f"`weights` of 'torchvision/{name}' must be one of {known}, 'default', None or "
        f"the path of a file. Got {weights!r}.{near_matches(str(weights), known)}"
    )


def _make(name, size, own):
    if name.startswith("vit_"):
        return _make_vit(name, size)
    if name == "maxvit_t":
        return _make_maxvit(name, size, own)
    if name in ("inception_v3", "googlenet"):
        # Auxiliary classifiers are only for training from scratch. The weights expect
        # another normalization, which the network converts to itself.
        options = {"aux_logits": False, "init_weights": False, "transform_input": True}
        return models.get_model(name, weights=None, **options)
    return models.get_model(name, weights=None)


def _make_vit(name, size):
    patch = int(name.rpartition("_")[2])
    if size[0] != size[1] or size[0] % patch:
        raise ValueError(
            f"`image_size` of 'torchvision/{name}' must be a square with sides of a "
            f"multiple of {patch} px, its patches. Got {size}."
        )
    return models.get_model(name, weights=None, image_size=size[0])


def _make_maxvit(name, size, own):
    try:
        return models.get_model(name, weights=None, input_size=size)
    except ValueError as error:
        raise size_error(f"torchvision/{name}", size, own, error) from error


def _preprocessing(weights):
    preset = weights.transforms()
    size, resize = preset.crop_size, preset.resize_size
    return ImagePreprocessing(
        size=(size[0], size[-1]),
        resize=resize[0] if len(resize) == 1 else tuple(resize),
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
