"""A name, a path, a module or a callable becomes a backbone."""

import logging
import math
import os
import warnings
from collections.abc import Mapping

from torch import nn

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._card import STATE_DICT
from sktransfer.backbones._checkpoint import load_checkpoint
from sktransfer.backbones._module import load_module
from sktransfer.backbones._shipped import SHIPPED, load_shipped
from sktransfer.backbones._size import ImageError, size_error
from sktransfer.backbones._timm import adapt_timm, list_timm, load_timm
from sktransfer.backbones._torchvision import (
    adapt_torchvision,
    list_torchvision,
    load_torchvision,
)
from sktransfer.compute import own_torch_state, seeded
from sktransfer.utils import near_matches, spawn_seed

__all__ = ["load_backbone", "resolve_name"]

_logger = logging.getLogger("sktransfer")
_LOADERS = {
    "shipped": load_shipped,
    "torchvision": load_torchvision,
    "timm": load_timm,
}
_ADAPTERS = {
    "shipped": adapt_timm,
    "torchvision": adapt_torchvision,
    "timm": adapt_timm,
}
_CLASSIFIERS = ("fc", "classifier", "head", "heads")


@own_torch_state()
def load_backbone(
    spec="efficientnet_lite0",
    *,
    weights="default",
    image_size=None,
    n_features=None,
    preprocessing=None,
    kind=None,
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
        - a `Backbone`, which is returned as it is, or copied to have other weights,
          another image size or another preprocessing.
    weights : str, os.PathLike, mapping or None, default="default"
        ``"default"``; None for random weights; what the provider calls them, as
        ``"IMAGENET1K_V1"``; the path of a checkpoint (``.safetensors``, or a file
        that ``torch.load(weights_only=True)`` reads); or a state dict. Of a module or
        a callable, ``"default"`` and None both leave the weights as they are. Of a
        `Backbone`, None is refused.
    image_size : int or (int, int), default=None
        Height and width of the model input in pixels. By default the weights' own.
        Transformers by name are made for it, and position embeddings resampled.
    n_features : int, default=None
        Length of the vectors for a network that takes vectors and has lazy layers.
    preprocessing : ImagePreprocessing or VectorPreprocessing, default=None
        By default what the weights were trained with.
    kind : {"image", "vector"}, default=None
        What a module without preprocessing takes. By default images if it has a 2-D
        convolution, and vectors if not.
    random_state : int, RandomState instance or None, default=None
        Seeds random weights. No global generator is touched.

    Returns
    -------
    Backbone
        In eval mode.

    Raises
    ------
    TypeError
        If `spec` or `weights` is something else.
    ValueError
        If there is no backbone or there are no weights of this name, if a checkpoint
        does not fit or is not finite, or if the network cannot take the image size.
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
    _check_weights(spec, weights)
    given = weights if _is_given(weights) else None
    same = given is None and image_size is None and preprocessing is None
    if isinstance(spec, Backbone) and same:
        return spec
    seed = spawn_seed(random_state)

    def make(function):
        with seeded(seed):
            return function()

    if isinstance(spec, Backbone):
        backbone = spec.untraced()
    elif isinstance(spec, nn.Module) or callable(spec):
        backbone = load_module(
            spec,
            image_size=image_size,
            n_features=n_features,
            preprocessing=preprocessing,
            kind=kind,
            make=make,
        )
    else:
        provider, name = resolve_name(spec)
        chosen = weights if given is None else None
        size = _size(image_size, preprocessing)
        backbone = _LOADERS[provider](name, weights=chosen, image_size=size, make=make)
    backbone.module.eval()
    own = backbone.preprocessing
    backbone.preprocessing = (preprocessing or own).with_size(image_size)
    _check_size(backbone, own)
    if given is not None:
        _load_given(backbone, given, own)
    return backbone


def _check_weights(spec, weights):
    if not isinstance(weights, str | os.PathLike | Mapping | None):
        raise TypeError(
            "`weights` must be 'default', None, a name, the path of a file or a state "
            f"dict. Got {_shortened(weights)}.{_hint(weights)}"
        )
    if isinstance(weights, str) and weights == "":
        raise ValueError(
            "`weights` must be 'default', None, a name or the path of a file. Got ''."
        )
    if _is_given(weights):
        return
    if isinstance(spec, Backbone) and weights != "default":
        raise ValueError(
            "`weights` of a Backbone must be 'default', which keeps those that it has, "
            f"the path of a file or a state dict. Got {weights!r}."
        )
    if isinstance(spec, nn.Module) or callable(spec):
        if weights not in ("default", None):
            raise ValueError(
                "`weights` of a module or a callable must be 'default', None, the "
                f"path of a file or a state dict. Got {weights!r}."
            )


def _shortened(weights):
    text = repr(weights)
    return text if len(text) <= 60 else f"a {type(weights).__name__}"


def _hint(weights):
    if isinstance(weights, nn.Module):
        return " Pass its `state_dict()`."
    return ""


def _size(image_size, preprocessing):
    """Return the image size that a network is wanted for; None for its own."""
    if preprocessing is None:
        return image_size
    return getattr(preprocessing.with_size(image_size), "size", None)


def _check_size(backbone, own):
    """See that a network can take another size than that of its preprocessing."""
    wanted = backbone.preprocessing
    if wanted.input_shape == own.input_shape:
        return
    try:
        backbone.stages  # noqa: B018
    except ImageError:
        raise
    except ValueError as error:
        if not wanted.kind == own.kind == "image":
            raise
        _check_own_size(backbone, own)
        reason = str(error.__cause__)
        raise size_error(backbone.name, wanted.size, own.size, reason) from error


def _check_own_size(backbone, own):
    """See that it is the size for which a network cannot be run."""
    twin = backbone.untraced()
    twin.preprocessing = own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, which fails in the end
        twin.stages  # noqa: B018


def _load_given(backbone, weights, own):
    network, adapter = backbone.network, _ADAPTERS.get(backbone.provider)
    same_size = backbone.preprocessing.input_shape == own.input_shape
    load_checkpoint(
        network,
        weights,
        classifier=lambda: [*backbone.classifier_layers(), *_removed(backbone)],
        adapt=lambda state: adapter(state, network) if adapter else state,
        advice="" if same_size else f"Leave `image_size` out for {own.size}.",
        areas=[math.prod(p.input_shape[1:]) for p in (own, backbone.preprocessing)],
    )
    in_memory = isinstance(weights, Mapping)
    backbone.weights = STATE_DICT if in_memory else os.fspath(weights)
    backbone.license = None  # which is not that of these weights


def _removed(backbone):
    """Paths of classifying layers that a network has no weights of any more."""
    network = backbone.network
    names = network.state_dict().keys()
    return [
        path
        for path in backbone.classifier or _CLASSIFIERS
        if hasattr(network, path.partition(".")[0])
        and not any(name.startswith(f"{path}.") for name in names)
    ]


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


def _is_given(weights):
    """Whether weights are the user's own: a file or a state dict."""
    if isinstance(weights, os.PathLike | Mapping):
        return True
    if not isinstance(weights, str):
        return False
    endings = (".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".tar")
    return weights.endswith(endings) or os.sep in weights
