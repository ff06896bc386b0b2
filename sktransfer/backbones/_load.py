"""Loading of backbones, and sharing of one between users in the process."""

import inspect
import math
import operator
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import nn

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._checkpoint import load_checkpoint
from sktransfer.backbones._files import read_state_dict
from sktransfer.backbones._images import ImageError, size_error
from sktransfer.backbones._module import load_module
from sktransfer.backbones._registry import (
    full_name,
    get_provider,
    resolve_name,
)
from sktransfer.backbones._sections import fingerprint_tensors
from sktransfer.compute import default_torch_state, fork_lock, seeded
from sktransfer.inputs import Preprocessing
from sktransfer.utils import (
    content_stamp,
    near_matches,
    spawn_seed,
    survey_class,
    types,
    warn_caller,
)

BackboneLike = str | nn.Module | Callable[[], nn.Module] | Backbone
STATE_DICT = "a state dict"  # the name of weights that are given as one
_ENDINGS = (".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".tar")

_CLASSIFIERS = ("fc", "classifier", "head", "heads")
_MOST_SHARED = 4
_lock = fork_lock(globals(), "_lock")
_shared: OrderedDict[tuple, tuple] = OrderedDict()  # backbones and their code


@default_torch_state()
def load_backbone(
    spec: BackboneLike = "efficientnet_lite0",
    *,
    weights: types.Weights = "default",
    image_size: types.ImageSize | None = None,
    n_features: int | None = None,
    preprocessing: Preprocessing | Mapping | None = None,
    kind: str | None = None,
    random_state: types.RandomState | None = None,
) -> Backbone:
    """Load a pretrained network as a sequence of stages.

    Parameters
    ----------
    spec : str, torch.nn.Module, callable or Backbone, default="efficientnet_lite0"
        - ``"efficientnet_lite0"``: its ImageNet weights are installed with sktransfer
          and need no download;
        - ``"torchvision/resnet50"``, ``"timm/convnext_nano.in12k"``: a provider and a
          name there. A name without a provider is looked up in those of
          :func:`list_providers`, in that order, and the log says where it was found;
        - a module, which is copied, or a callable that returns one;
        - a `Backbone`, which is returned unchanged, or copied if other weights,
          another image size or another preprocessing are asked for.
    weights : str, os.PathLike, mapping or None, default="default"
        ``"default"``; None for random weights; the provider's name of other weights,
        such as ``"IMAGENET1K_V1"``; the path of a checkpoint (``.safetensors``, or a
        file that ``torch.load(weights_only=True)`` reads); or a state dict. A module
        or a callable keeps its weights with ``"default"`` and with None, a `Backbone`
        with ``"default"``.
    image_size : int or (int, int), default=None
        Height and width of the model input in pixels. By default those of the
        weights. Transformers loaded by name are built for this size, and their
        position embeddings are resampled.
    n_features : int, default=None
        Length of the vectors. Needed only by a network for vectors with lazy layers.
    preprocessing : Preprocessing or mapping, default=None
        Such as an `ImagePreprocessing` or a `TextPreprocessing`. By default that of
        the weights. A mapping holds those of its parameters that are changed, such as
        ``{"max_length": 64}`` for texts.
    kind : str, default=None
        Modality of a module without preprocessing: "image", "vector" or another that
        is registered. By default images if it has a 2-D convolution, and otherwise
        vectors.
    random_state : int, RandomState instance or None, default=None
        Seed of random weights. Global generators are neither used nor changed.

    Returns
    -------
    Backbone
        In eval mode.

    Raises
    ------
    TypeError
        If `spec` or `weights` has another type.
    ValueError
        If there is no backbone or there are no weights of this name, if a checkpoint
        does not fit or is not finite, if the preprocessing has no such parameter, or if
        the network cannot take the image size.
    OSError
        If weights cannot be downloaded or a checkpoint does not exist.

    See Also
    --------
    list_backbones : Lists the names.
    describe_backbone : Lists the stages of a backbone.

    Examples
    --------
    >>> from sktransfer.backbones import load_backbone
    >>> backbone = load_backbone("efficientnet_lite0")
    >>> len(backbone.stages)
    9
    """
    _check_weights(spec, weights)
    given = weights if are_users_own(weights) else None
    same = given is None and image_size is None and preprocessing is None
    if isinstance(spec, Backbone) and same:
        return spec
    seed = spawn_seed(random_state)

    def make(function):
        with seeded(seed):
            return function()

    whole = None if isinstance(preprocessing, Mapping) else preprocessing
    sizes = {"image_size": image_size, "preprocessing": whole, "make": make}
    if isinstance(spec, Backbone):
        backbone = spec.untraced()
    elif isinstance(spec, nn.Module) or callable(spec):
        if weights == "default" and not isinstance(spec, nn.Module):
            _warn_if_random(spec)
        backbone = load_module(spec, n_features=n_features, kind=kind, **sizes)
    else:
        backbone = _load_named(spec, weights if given is None else None, **sizes)
    backbone.module.eval()
    own = backbone.preprocessing
    backbone.preprocessing = _changed(own, preprocessing).with_size(image_size)
    _check_size(backbone, own)
    if given is not None:
        _load_given(backbone, given, own)
    return backbone


def _changed(own, given):
    """Return the preprocessing that is given, or that of the weights, changed by it."""
    if not isinstance(given, Mapping):
        return given or own
    names = [f.name for f in fields(own)] if is_dataclass(own) else []
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(
            f"`preprocessing` may change the parameters {names} of the "
            f"{type(own).__name__} of this backbone. Got {unknown[0]!r}."
            f"{near_matches(str(unknown[0]), names)}"
        )
    return replace(own, **given)


def _warn_if_random(spec):
    """Warn if a callable makes random weights unless an argument asks for others."""
    try:
        parameters = inspect.signature(spec).parameters
    except (TypeError, ValueError):  # a callable without a signature
        return
    for name, without in {"weights": None, "pretrained": False}.items():
        if name in parameters and parameters[name].default is without:
            called = getattr(spec, "__name__", "it")
            value = "True" if name == "pretrained" else "'DEFAULT'"
            warn_caller(
                f"`backbone` is called without arguments, and {called} makes random "
                f"weights then. Pass functools.partial({called}, {name}={value}), a "
                "name such as 'torchvision/resnet18', or `weights=None` if they are "
                "meant to be random."
            )


def _load_named(spec, weights, *, image_size, preprocessing, make):
    """Load a backbone of a provider."""
    provider, name = resolve_name(spec)
    if preprocessing is not None:
        image_size = getattr(preprocessing.with_size(image_size), "size", None)
    source = get_provider(provider)
    backbone = source.load(name, weights=weights, image_size=image_size, make=make)
    kind, stated = backbone.preprocessing.kind, source.kind(name)
    if kind != stated:
        raise ValueError(
            f"The `kind` of a provider must be that of the backbone. Got {stated!r} "
            f"from {provider!r} for {name!r}, whose preprocessing is of {kind!r}."
        )
    backbone.provider = provider
    backbone.name = full_name(provider, backbone.name)
    return backbone


def _check_weights(spec, weights):
    if not isinstance(weights, str | os.PathLike | Mapping | None):
        raise TypeError(
            "`weights` must be 'default', None, a name, the path of a file or a state "
            f"dict. Got {_shortened(weights)}."
        )
    if isinstance(weights, str) and weights == "":
        raise ValueError(
            "`weights` must be 'default', None, a name or the path of a file. Got ''."
        )
    if are_users_own(weights):
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
    text = text if len(text) <= 60 else f"a {type(weights).__name__}"
    hint = ". Pass its `state_dict()`" if isinstance(weights, nn.Module) else ""
    return f"{text}{hint}"


def _check_size(backbone, own):
    """Check that a network can take another input shape than that of its weights."""
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
    """Raise the error of a network that cannot take its own input shape either."""
    twin = backbone.untraced()
    twin.preprocessing = own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, which fails in the end
        twin.stages  # noqa: B018


def _load_given(backbone, weights, own):
    """Load the user's checkpoint into a backbone."""
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
        areas=(_area(own), _area(backbone.preprocessing)),
    )
    in_memory = isinstance(weights, Mapping)
    backbone.weights = STATE_DICT if in_memory else os.fspath(weights)
    backbone.license = None  # unknown for the user's weights


def _area(preprocessing):
    return math.prod(getattr(preprocessing, "size", ()))


def _removed(backbone: Backbone) -> list[str]:
    """Return the paths of classifying layers that were removed from a network."""
    network = backbone.network
    names = network.state_dict().keys()
    return [
        path
        for path in backbone.classifier or _CLASSIFIERS
        if hasattr(network, path.partition(".")[0])
        and not any(name.startswith(f"{path}.") for name in names)
    ]


def are_users_own(weights: object) -> bool:
    """Return whether weights are the user's: a state dict, or the path of a file."""
    if not isinstance(weights, str):
        return isinstance(weights, os.PathLike | Mapping)
    return weights == STATE_DICT or weights.endswith(_ENDINGS) or os.sep in weights


def shared_backbone(spec: str, *, weights, image_size, seed: int | None) -> Backbone:
    """Return a backbone by name that others in this process may use, too.

    Its weights must not be changed; those of :meth:`Backbone.fork` may be. The
    parameters are those of :func:`load_backbone`.
    """
    size = tuple(image_size) if isinstance(image_size, list | tuple) else image_size
    with _lock:
        identity = _identity(weights)
        key = (spec, identity, size, seed if weights is None else None, _files_in(spec))
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


def _files_in(spec):
    """Return what identifies the files below a folder, None for any other name."""
    folder = spec.removeprefix("hf/")
    if not os.path.isdir(folder):
        return None
    paths = [
        os.path.join(top, name) for top, _, names in os.walk(folder) for name in names
    ]
    found = [(path, os.stat(path)) for path in sorted(paths)]
    return tuple((path, stat.st_mtime_ns, stat.st_size) for path, stat in found)


def _code_of(backbone: Any) -> list:
    """Return the provider of a backbone, and surveys of the code of its layers.

    They are the same objects as long as no code is replaced.
    """
    kinds = dict.fromkeys(type(layer) for layer in backbone.module.modules())
    return [get_provider(backbone.provider), *map(survey_class, kinds)]


def _is_outdated(backbone, code):
    """Return whether the provider of a backbone or code of its layers was replaced."""
    return any(map(operator.is_not, code, _code_of(backbone)))


def _identity(weights):
    """Return what identifies weights: the content of a file, not its path."""
    if isinstance(weights, Mapping):
        return fingerprint_tensors(read_state_dict(weights))
    if not isinstance(weights, str | os.PathLike):
        return None if weights is None else repr(weights)
    if not os.path.isfile(weights):
        return weights
    return os.path.realpath(weights), content_stamp(weights)
