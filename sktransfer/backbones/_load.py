"""A name, a path, a module or a callable becomes a backbone."""

import logging
import os

import torch
from torch import nn

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._checkpoint import load_checkpoint
from sktransfer.backbones._module import load_module
from sktransfer.backbones._shipped import SHIPPED, load_shipped
from sktransfer.backbones._timm import list_timm, load_timm
from sktransfer.backbones._torchvision import list_torchvision, load_torchvision
from sktransfer.utils import near_matches, spawn_seed

__all__ = ["load_backbone", "resolve_name"]

_logger = logging.getLogger("sktransfer")
_LOADERS = {
    "shipped": load_shipped,
    "torchvision": load_torchvision,
    "timm": load_timm,
}


def load_backbone(
    spec="efficientnet_lite0",
    *,
    weights="default",
    image_size=None,
    n_features=None,
    preprocessing=None,
    random_state=None,
):
    """Load a pretrained network as a sequence of stages.

    Parameters
    ----------
    spec : str, torch.nn.Module, callable or Backbone, default="efficientnet_lite0"
        - ``"efficientnet_lite0"``: ImageNet weights that are installed with
          sktransfer; never a download;
        - ``"torchvision/resnet50"``, ``"timm/convnext_nano.in12k"``: a provider and a
          name there. Without a provider, the shipped ones, torchvision and timm are
          looked through in that order, and the log says which was taken;
        - a module, which is copied, or a callable that returns one;
        - a `Backbone`, which is returned as it is.
    weights : str, os.PathLike or None, default="default"
        ``"default"``; None for random weights; what the provider calls them, as
        ``"IMAGENET1K_V1"``; or the path of a checkpoint (``.safetensors``, or a file
        that ``torch.load(weights_only=True)`` reads). Of a module or a callable,
        ``"default"`` and None both leave the weights as they are.
    image_size : int or (int, int), default=None
        Height and width of the model input in pixels. By default the weights' own.
    n_features : int, default=None
        Length of the vectors for a network that takes vectors and has lazy layers.
    preprocessing : ImagePreprocessing or VectorPreprocessing, default=None
        By default what the weights were trained with.
    random_state : int, RandomState instance or None, default=None
        Seeds random weights. No global generator is touched.

    Returns
    -------
    Backbone
        In eval mode.

    Raises
    ------
    ValueError
        If there is no backbone or there are no weights of this name, or if a
        checkpoint does not fit.
    OSError
        If weights cannot be downloaded or a checkpoint does not exist.

    See Also
    --------
    list_backbones : The names.
    describe_backbone : The stages.

    Examples
    --------
    >>> from sktransfer.backbones import load_backbone
    >>> backbone = load_backbone("efficientnet_lite0")
    >>> len(backbone.stages)
    9
    """
    if isinstance(spec, Backbone):
        return spec

    def make(function):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # of the CPU alone
            return function()

    seed = spawn_seed(random_state)
    file = os.fspath(weights) if _is_path(weights) else None
    if isinstance(spec, nn.Module) or callable(spec):
        if file is None and weights not in ("default", None):
            raise ValueError(
                "`weights` of a module or a callable must be 'default', None or the "
                f"path of a file. Got {weights!r}."
            )
        backbone = load_module(
            spec, n_features=n_features, preprocessing=preprocessing, make=make
        )
    else:
        provider, name = resolve_name(spec)
        chosen = weights if file is None else None
        backbone = _LOADERS[provider](name, weights=chosen, make=make)
    if file is not None:
        load_checkpoint(backbone.module, file, classifier=_classifier(backbone))
        backbone.weights = file
    if preprocessing is not None:
        backbone.preprocessing = preprocessing
    backbone.preprocessing = backbone.preprocessing.with_size(image_size)
    backbone.module.eval()
    return backbone


def resolve_name(spec):
    """Find the provider of a name.

    Parameters
    ----------
    spec : str
        With or without the provider in front.

    Returns
    -------
    provider, name : str

    Raises
    ------
    TypeError
        If it is no string.
    ValueError
        If nobody provides it; near matches are named.
    """
    if not isinstance(spec, str):
        raise TypeError(
            "`backbone` must be a name, an nn.Module, a callable that returns one, or "
            f"a Backbone. Got {spec!r}."
        )
    provider, slash, name = spec.partition("/")
    if slash and provider in _LOADERS:
        if _provides(provider, name):
            return provider, name
        raise ValueError(_unknown(spec))
    for provider in _LOADERS:
        if _provides(provider, spec):
            _logger.info("backbone %r is taken from %s", spec, provider)
            return provider, spec
    raise ValueError(_unknown(spec))


def _provides(provider, name):
    if provider == "shipped":
        return name in SHIPPED
    if provider == "torchvision":
        return name in list_torchvision()
    architectures, _ = list_timm()
    return name.partition(".")[0] in architectures


def _unknown(spec):
    names = [*SHIPPED, *list_torchvision(), *list_timm()[0]]
    near = near_matches(spec.rpartition("/")[2], names)
    return (
        f"There is no backbone {spec!r} among the shipped ones, torchvision's and "
        f"timm's; `sktransfer.backbones.list_backbones()` lists them.{near}"
    )


def _is_path(weights):
    if isinstance(weights, os.PathLike):
        return True
    if not isinstance(weights, str):
        return False
    endings = (".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".tar")
    return weights.endswith(endings) or os.sep in weights


def _classifier(backbone):
    if backbone.classifier:
        return backbone.classifier
    return [
        n for n in ("fc", "classifier", "head", "heads") if hasattr(backbone.module, n)
    ]
