"""Backbones from an nn.Module, or from a callable that returns one."""

import copy
import warnings

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from sktransfer.backbones._backbone import Backbone
from sktransfer.inputs import ImagePreprocessing, VectorPreprocessing

__all__ = ["IMAGENET", "is_image_network", "load_module"]

IMAGENET = ImagePreprocessing(
    size=(224, 224),
    resize=256,
    interpolation="bilinear",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
_CONVOLUTIONS = (nn.Conv2d, nn.LazyConv2d)


def is_image_network(module):
    """Say whether a network looks at images: whether it has a 2-D convolution."""
    return any(isinstance(layer, _CONVOLUTIONS) for layer in module.modules())


def load_module(spec, *, image_size, n_features, preprocessing, make):
    """Make a backbone of a module or of a callable that returns one.

    Parameters
    ----------
    spec : torch.nn.Module or callable
        A module is copied, and so is what a callable returns, as that may be in use
        elsewhere.
    image_size : int, (int, int) or None
        Of the images that give lazy layers their width.
    n_features : int or None
        Length of the vectors that it takes.
    preprocessing : ImagePreprocessing, VectorPreprocessing or None
        By default timm's configuration of the module if it has one; ImageNet's usual
        one, with a warning, if it has convolutions; none for vectors.
    make : callable
        Calls a function that makes a module under a local seed.

    Returns
    -------
    Backbone

    Raises
    ------
    TypeError
        If the callable returns something else.
    ValueError
        If the length of the vectors is not known, a module cannot be copied, or a
        callable returns again and again one that cannot.
    """
    module = _copy(spec) if isinstance(spec, nn.Module) else _make(spec, make)
    if preprocessing is None:
        preprocessing = _preprocessing(module, n_features)
    make(lambda: _materialise(module, preprocessing.with_size(image_size)))
    config = getattr(module, "pretrained_cfg", None) or {}
    classifier = config.get("classifier")
    return Backbone(
        module,
        preprocessing=preprocessing,
        classifier=[classifier] if isinstance(classifier, str) else classifier,
    )


def _make(spec, make):
    """Call a function for a module that nobody else has."""
    module = make(spec)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"`backbone` is a callable, so it must return an nn.Module. {spec!r} "
            f"returned {type(module).__name__}."
        )
    try:
        return _copy(module)
    except ValueError as error:
        other = make(spec)
        if _tensors(module).isdisjoint(_tensors(other)) and other is not module:
            return other
        raise ValueError(
            f"`backbone` is a callable, so it must return a new module each time, or "
            f"one that can be copied. {spec!r} returned the same again. {error}"
        ) from error


def _tensors(module):
    return {*map(id, [*module.modules(), *module.parameters(), *module.buffers()])}


def _copy(module):
    # A lazy parameter knows how to copy itself, a lazy buffer does not.
    lazy = {
        id(b): UninitializedBuffer(b.requires_grad, b.data.device, b.data.dtype)
        for b in module.buffers()
        if is_lazy(b)
    }
    try:
        return copy.deepcopy(module, lazy)
    except Exception as error:
        raise ValueError(
            f"{type(module).__name__} cannot be copied ({type(error).__name__}: "
            f"{str(error)[:200]}). Pass a callable that makes it."
        ) from error


def _preprocessing(module, n_features):
    if getattr(module, "pretrained_cfg", None):
        from sktransfer.backbones._timm import _preprocessing as of_timm

        return of_timm(module.pretrained_cfg)
    if not is_image_network(module):
        return VectorPreprocessing(_n_features(module, n_features))
    warnings.warn(
        f"{type(module).__name__} does not say which preprocessing its weights expect, "
        "so ImageNet's usual one is taken (224 pixels, mean (0.485, 0.456, 0.406)). "
        "Give it with `load_backbone(module, preprocessing=ImagePreprocessing(...))`.",
        stacklevel=2,
    )
    return IMAGENET


def _n_features(module, n_features):
    if n_features is not None:
        return n_features
    widths = (_width(layer) for layer in module.modules())
    first = next((width for width in widths if width is not None), 0)
    if first:  # a lazy layer says 0
        return first
    raise ValueError(
        f"{type(module).__name__} does not say how long its vectors are. Pass "
        "`n_features`."
    )


def _width(layer):
    return getattr(layer, "in_features", getattr(layer, "num_features", None))


def _materialise(module, preprocessing):
    """Give lazy layers their width."""
    if any(map(is_lazy, [*module.parameters(), *module.buffers()])):
        training = module.training
        with torch.no_grad():
            module.eval()(preprocessing.example(2))
        module.train(training)
    return module
