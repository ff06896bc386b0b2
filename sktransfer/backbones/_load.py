"""Load a backbone by name, or from a module; once per process where it is shared."""

import math
import operator
import os
import threading
import warnings
from collections import OrderedDict
from collections.abc import Mapping

from torch import nn

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._card import STATE_DICT
from sktransfer.backbones._checkpoint import load_checkpoint
from sktransfer.backbones._images import ImageError, size_error
from sktransfer.backbones._module import load_module
from sktransfer.backbones._registry import (
    full_name,
    get_provider,
    registered,
    resolve_name,
)
from sktransfer.backbones._sections import fingerprint_tensors
from sktransfer.backbones._state_dict import read_state_dict
from sktransfer.compute import in_forked_child, own_torch_state, seeded
from sktransfer.utils import content_stamp, spawn_seed, survey_class

__all__ = ["load_backbone", "shared_backbone"]

_CLASSIFIERS = ("fc", "classifier", "head", "heads")
_MOST_SHARED = 4
_lock = threading.RLock()
_shared: OrderedDict[tuple, tuple] = OrderedDict()  # backbones, and their layers' code


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
          name there. Without a provider, those of :func:`list_providers` are asked in
          that order, and the log says which was taken;
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
    kind : str, default=None
        The modality that a module without preprocessing takes, "image", "vector" or
        another that is registered. By default images if it has a 2-D convolution, and
        vectors if nothing tells.
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

    sizes = {"image_size": image_size, "preprocessing": preprocessing, "make": make}
    if isinstance(spec, Backbone):
        backbone = spec.untraced()
    elif isinstance(spec, nn.Module) or callable(spec):
        backbone = load_module(spec, n_features=n_features, kind=kind, **sizes)
    else:
        backbone = _load_named(spec, weights if given is None else None, **sizes)
    backbone.module.eval()
    own = backbone.preprocessing
    backbone.preprocessing = (preprocessing or own).with_size(image_size)
    _check_size(backbone, own)
    if given is not None:
        _load_given(backbone, given, own)
    return backbone


def _load_named(spec, weights, *, image_size, preprocessing, make):
    """Load a backbone of a provider."""
    provider, name = resolve_name(spec)
    if preprocessing is not None:
        image_size = getattr(preprocessing.with_size(image_size), "size", None)
    source = get_provider(provider)
    backbone = source.load(name, weights=weights, image_size=image_size, make=make)
    backbone.provider = provider
    backbone.name = full_name(provider, backbone.name)
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


def _check_size(backbone, own):
    """Check that a network can take another size than that of its preprocessing."""
    wanted = backbone.preprocessing
    if wanted.input_shape == own.input_shape:
        return
    try:
        backbone.stages  # noqa: B018
    except ImageError:
        raise
    except ValueError as error:
        sizes = [getattr(of, "size", None) for of in (wanted, own)]
        if None in sizes:
            raise
        _check_own_size(backbone, own)
        raise size_error(backbone.name, *sizes, str(error.__cause__)) from error


def _check_own_size(backbone, own):
    """Raise what a network raises for its own size as well."""
    twin = backbone.untraced()
    twin.preprocessing = own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, which fails in the end
        twin.stages  # noqa: B018


def _load_given(backbone, weights, own):
    """Load a user's checkpoint into a backbone."""
    network = backbone.network
    is_named = backbone.provider is not None
    provider = get_provider(backbone.provider) if is_named else None
    same_size = backbone.preprocessing.input_shape == own.input_shape
    load_checkpoint(
        network,
        weights,
        classifier=lambda: [*backbone.classifier_layers(), *_removed(backbone)],
        adapt=lambda state: provider.adapt(state, network) if provider else state,
        advice="" if same_size else f"Leave `image_size` out for {own.size}.",
        areas=[
            math.prod(getattr(p, "size", ())) for p in (own, backbone.preprocessing)
        ],
    )
    in_memory = isinstance(weights, Mapping)
    backbone.weights = STATE_DICT if in_memory else os.fspath(weights)
    backbone.license = None  # which is not that of these weights


def _area(preprocessing):
    return math.prod(getattr(preprocessing, "size", ()))


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


def _is_given(weights):
    """Whether weights are the user's own: a file or a state dict."""
    if isinstance(weights, os.PathLike | Mapping):
        return True
    if not isinstance(weights, str):
        return False
    endings = (".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".tar")
    return weights.endswith(endings) or os.sep in weights


def _renew():
    global _lock
    _lock = threading.RLock()


in_forked_child(_renew)


def shared_backbone(spec, *, weights, image_size, seed):
    """Return a backbone by name that others in this process may use, too.

    Its weights must not be changed: :meth:`Backbone.fork` gives ones that may be. See
    `load_backbone` for the parameters.
    """
    size = tuple(image_size) if isinstance(image_size, list | tuple) else image_size
    with _lock:
        identity = _identity(weights)
        key = (spec, identity, size, seed if weights is None else None)
        if key in _shared and _is_outdated(*_shared[key]):
            del _shared[key]
        if key not in _shared:
            backbone = load_backbone(
                spec, weights=weights, image_size=image_size, random_state=seed
            )
            backbone.module.requires_grad_(False)
            backbone.stages  # noqa: B018  # traced before other threads see it
            if _identity(weights) != identity:  # written while it was read
                return backbone
            _shared[key] = backbone, _code_of(backbone)
        _shared.move_to_end(key)
        if len(_shared) > _MOST_SHARED:
            _shared.popitem(last=False)
        return _shared[key][0]


def _code_of(backbone):
    """Return its provider, and surveys of the code of its layers (list).

    They are the same objects as long as nothing is replaced.
    """
    kinds = dict.fromkeys(type(layer) for layer in backbone.module.modules())
    return [registered.get(backbone.provider), *map(survey_class, kinds)]


def _is_outdated(backbone, code):
    """Whether its provider, or code of its layers, was replaced."""
    return any(map(operator.is_not, code, _code_of(backbone)))


def _identity(weights):
    """Return what weights are identified by: the content of a file, not its path."""
    if isinstance(weights, Mapping):
        return fingerprint_tensors(read_state_dict(weights))
    if not isinstance(weights, str | os.PathLike):
        return None if weights is None else repr(weights)
    if not os.path.isfile(weights):
        return weights
    return os.path.realpath(weights), content_stamp(weights)
