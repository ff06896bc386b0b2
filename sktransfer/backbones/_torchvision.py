"""Backbones of torchvision, with the preprocessing that their weights carry."""

import re

from torchvision import models
from torchvision.models import VisionTransformer
from torchvision.models.vision_transformer import interpolate_embeddings

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._download import fetch_weights, hub_file
from sktransfer.backbones._size import size_error
from sktransfer.backbones._state_dict import read_state_dict
from sktransfer.inputs import ImagePreprocessing
from sktransfer.utils import near_matches

__all__ = [
    "adapt_torchvision",
    "cached_file",
    "list_torchvision",
    "load_torchvision",
    "weights_of",
]

_LICENSE_KEY = "license"
_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def list_torchvision():
    """Return the names of torchvision's image classification models (list of str)."""
    return models.list_models(module=models)


def weights_of(name):
    """Return the weights that torchvision offers for a model (list of Weights)."""
    return list(models.get_model_weights(name))


def cached_file(weights):
    """Return where torch.hub keeps, or would keep, the file of some weights (str)."""
    return hub_file(weights.url)


def load_torchvision(name, *, weights, image_size, make):
    """Load a model of torchvision.

    Parameters
    ----------
    name : str
        As in ``torchvision.models.list_models()``.
    weights : str or None
        ``"default"``, or a name such as ``"IMAGENET1K_V1"``; None for random weights.
    image_size : int, (int, int) or None
        A transformer is made for this one; None for the weights' own.
    make : callable
        Calls a function that makes a module under a local seed.

    Returns
    -------
    Backbone

    Raises
    ------
    ValueError
        If there are no weights of this name, or if there cannot be a transformer for
        this image size.
    OSError
        If the weights cannot be downloaded.
    """
    found = _find_weights(name, weights)
    preprocessing = _preprocessing(found)
    size = preprocessing.with_size(image_size).size
    module = make(lambda: _make(name, size, preprocessing.size))
    if weights is not None:
        path = fetch_weights(f"torchvision/{name}", found.url)
        module.load_state_dict(adapt_torchvision(read_state_dict(path), module))
    return Backbone(
        module,
        preprocessing=preprocessing,
        name=f"torchvision/{name}",
        provider="torchvision",
        weights=None if weights is None else found.name,
        license=found.meta.get(_LICENSE_KEY),
    )


def _find_weights(name, weights):
    """Look weights up; random weights take the default ones' preprocessing."""
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
        # The auxiliary classifiers serve training from scratch alone; the weights were
        # ported with another normalisation, which the network undoes itself.
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


def adapt_torchvision(state, module):
    """Make a checkpoint of torchvision fit a network.

    Parameters
    ----------
    state : dict of str to torch.Tensor
    module : torch.nn.Module
        Of torchvision.

    Returns
    -------
    dict of str to torch.Tensor
        Without auxiliary classifiers, with the present names of DenseNet's layers and
        position embeddings for the image size of the network.
    """
    state = {
        _OLD_DENSENET.sub(r"\1\2", name): tensor
        for name, tensor in state.items()
        if not name.startswith(_AUXILIARY)
    }
    if isinstance(module, VisionTransformer):
        state = interpolate_embeddings(module.image_size, module.patch_size, state)
    return state


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
