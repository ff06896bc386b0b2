"""Backbones from a module, or from a callable that returns one."""

import copy
import warnings

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from sktransfer.backbones._backbone import Backbone
from sktransfer.inputs import MODALITIES, modality_of


def load_module(
    spec, *, image_size, n_features, preprocessing, kind=None, make
) -> Backbone:
    """Make a backbone from a module, or from a callable that returns one.

    The module is copied. The preprocessing is by default that of timm's configuration,
    or otherwise the default of the modality. ``make`` calls a function that makes a
    module under a local seed; the other parameters are those of :func:`load_backbone`.
    """
    if isinstance(spec, nn.Module):
        _check_weights(spec)
    module = _copy(spec) if isinstance(spec, nn.Module) else _make(spec, make)
    _cast(module)
    if preprocessing is None:
        preprocessing = _preprocessing(module, n_features, kind)
    make(lambda: _materialise(module, preprocessing.with_size(image_size)))
    config = getattr(module, "pretrained_cfg", None) or {}
    classifier = config.get("classifier")
    return Backbone(module, preprocessing=preprocessing, classifier=classifier)


def _make(spec, make):
    """Call a function for a module, and make sure that nobody else holds it."""
    module = make(spec)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"`backbone` is a callable, so it must return an nn.Module. {spec!r} "
            f"returned {type(module).__name__}."
        )
    _check_weights(module)
    try:
        return _copy(module)
    except ValueError as error:
        other = make(spec)
        if _tensors(module).isdisjoint(_tensors(other)):
            return other
        raise ValueError(
            f"`backbone` is a callable, so it must return a new module each time, or "
            f"one that can be copied. {spec!r} returned the same again. {error}"
        ) from error


def _tensors(module):
    return {*map(id, [*module.modules(), *module.parameters(), *module.buffers()])}


def _check_weights(module):
    """Check that weights are plain tensors of real floating point."""
    name = type(module).__name__
    for path, layer in module.named_modules():
        if isinstance(layer, torch.jit.ScriptModule):
            raise TypeError(
                "`backbone` must be an nn.Module of Python code, which can be cut and "
                f"trained. {name} holds TorchScript. Pass the module that was compiled "
                "or traced."
            )
        if "quantized" in type(layer).__module__.split("."):
            raise TypeError(
                f"`backbone` must have layers with weights of floating point. {name} "
                f"has the quantised layer {path!r}, a {type(layer).__name__}. Pass the "
                "network as it was before it was quantised."
            )
        _check_real(name, path, layer)
        _check_values(name, path, layer)
        for attribute, value in vars(layer).items():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                raise ValueError(
                    f"`backbone` must have weights that are parameters. {name} makes "
                    f"`{attribute}` of its layer {path!r} from others, as after "
                    "pruning or with the old `weight_norm`. Make it permanent with "
                    f"torch.nn.utils.prune.remove(layer, {attribute!r}) or "
                    "torch.nn.utils.remove_weight_norm(layer)."
                )


def _check_real(name, path, layer):
    """Check that the weights of a layer are no complex numbers."""
    for attribute, value in layer.named_parameters(recurse=False):
        if value.is_complex():
            raise TypeError(
                f"`backbone` must have real weights. {name} has {attribute!r} of "
                f"{value.dtype} in its layer {path!r}. Keep the real and the imaginary "
                "parts as two parameters, and join them with torch.complex where they "
                "are used."
            )


def _check_values(name, path, layer):
    """Check that the tensors of a layer have values, which those on "meta" lack."""
    tensors = [*layer.named_parameters(recurse=False)]
    tensors += layer.named_buffers(recurse=False)
    for attribute, value in tensors:
        if value.is_meta and not is_lazy(value):
            raise ValueError(
                f"`backbone` must have weights with values. {name} has {attribute!r} "
                f"of its layer {path!r} on the device 'meta', which keeps none. Make "
                "the network on the CPU, or load its weights with `assign=True`."
            )


def _cast(module):
    """Cast weights to float32, the precision that everything is computed in."""
    tensors = [*module.parameters(), *module.buffers()]
    kinds = {t.dtype for t in tensors if t.is_floating_point()} - {torch.float32}
    if not kinds:
        return
    module.float()
    kinds = " and ".join(sorted(str(k).removeprefix("torch.") for k in kinds))
    warnings.warn(
        f"{type(module).__name__} has weights in {kinds}, which are cast to float32: "
        "everything is computed in that.",
        stacklevel=2,
    )


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


def _preprocessing(module, n_features, kind):
    """Return the preprocessing of timm's configuration, or of the modality."""
    if getattr(module, "pretrained_cfg", None):
        from sktransfer.backbones._timm import timm_preprocessing

        return timm_preprocessing(module.pretrained_cfg)
    modality = modality_of(backbone=module) if kind is None else MODALITIES[kind]
    return modality.default_preprocessing(module, n_features)


def _materialise(module, preprocessing):
    """Run a network with lazy layers once, so that they get their widths."""
    if any(map(is_lazy, [*module.parameters(), *module.buffers()])):
        training = module.training
        with torch.no_grad():
            module.eval()(preprocessing.example(2))
        module.train(training)
    return module
