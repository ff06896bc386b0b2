"""Backbones of torchvision, with the preprocessing that their weights carry."""

import os

import torch
from torchvision import models

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._download import explain_download
from sktransfer.inputs import ImagePreprocessing
from sktransfer.utils import near_matches

__all__ = ["cached_file", "list_torchvision", "load_torchvision", "weights_of"]

_LICENCE_KEY = "license"


def list_torchvision():
    """Return the names of torchvision's image classification models (list of str)."""
    return models.list_models(module=models)


def weights_of(name):
    """Return the weights that torchvision offers for a model (list of Weights)."""
    return list(models.get_model_weights(name))


def cached_file(weights):
    """Return where torch.hub keeps, or would keep, the file of some weights (str)."""
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    return os.path.join(folder, os.path.basename(weights.url))


def load_torchvision(name, *, weights, make):
    """Load a model of torchvision.

    Parameters
    ----------
    name : str
        As in ``torchvision.models.list_models()``.
    weights : str or None
        ``"default"``, or a name such as ``"IMAGENET1K_V1"``; None for random weights.
    make : callable
        Calls a function that makes a module under a local seed.

    Returns
    -------
    Backbone

    Raises
    ------
    ValueError
        If there are no weights of this name.
    OSError
        If the weights cannot be downloaded.
    """
    found = _find_weights(name, weights)
    module = make(lambda: _make(name))
    if weights is not None:
        module.load_state_dict(_fit(_state_dict(name, found), module))
    return Backbone(
        module,
        preprocessing=_preprocessing(found),
        name=f"torchvision/{name}",
        provider="torchvision",
        weights=None if weights is None else found.name,
        licence=found.meta.get(_LICENCE_KEY),
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


def _make(name):
    if name in ("inception_v3", "googlenet"):
        # The auxiliary classifiers serve training from scratch alone; the weights were
        # ported with another normalisation, which the network undoes itself.
        options = {"aux_logits": False, "init_weights": False, "transform_input": True}
        return models.get_model(name, weights=None, **options)
    return models.get_model(name, weights=None)


def _fit(state, module):
    expected = module.state_dict()
    return {k: v for k, v in state.items() if k in expected}


def _state_dict(name, weights):
    path = cached_file(weights)
    with explain_download(f"torchvision/{name}", weights.url, path):
        return weights.get_state_dict(
            progress=False, check_hash=True, weights_only=True, map_location="cpu"
        )


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
