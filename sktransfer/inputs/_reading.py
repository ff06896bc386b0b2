"""From X to samples, whatever the modality."""

import numpy as np
import PIL
import torch
import torchvision
from torch import nn

from sktransfer.inputs._modality import MODALITIES
from sktransfer.utils import describe, join_key

__all__ = [
    "as_samples",
    "is_describable_preprocessing",
    "modality_of",
    "preprocessing_key",
    "to_numpy",
]

_OF_NAMES = "image"  # what backbones that are given by a name take
_OTHERWISE = "vector"  # what X is if nothing else claims it
_DEFAULTS = (None, "auto")
_FLOATS_OF_NUMPY = (torch.float16, torch.float32, torch.float64)


def to_numpy(values):
    """Return a tensor or any array-like as an array, without a copy if possible.

    Parameters
    ----------
    values : Tensor or array-like
        A tensor may be on any device, and require a gradient.

    Returns
    -------
    ndarray
        Of float32 if numpy lacks the dtype.

    Raises
    ------
    TypeError
        If a tensor is sparse or nested, or has no values.
    """
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    _check_tensor(values)
    values = values.detach().cpu()
    if values.is_floating_point() and values.dtype not in _FLOATS_OF_NUMPY:
        values = values.float()
    return values.resolve_conj().resolve_neg().numpy()


def _check_tensor(values):
    if values.is_nested:
        raise TypeError(
            "Samples must be dense. Got a nested tensor; pass `list(X.unbind())`."
        )
    if values.layout != torch.strided:
        raise TypeError(
            f"Samples must be dense. Got a tensor of layout {values.layout}; "
            "pass `X.to_dense()`."
        )
    if values.is_meta:
        raise TypeError(
            "Samples must have values. Got a tensor on the device 'meta', which holds "
            "none; make it on another device."
        )


def modality_of(X=None, backbone=None, options=None):
    """Return the modality of the samples in X.

    Parameters
    ----------
    X : object, default=None
        Looked at only if nothing else decides; None if it is not known yet.
    backbone : object, default=None
        A preprocessing or an object that has one decides by its ``kind``; a network by
        its layers, if they can take one modality only; a name stands for images.
    options : dict, default=None
        Parameters of an estimator. Any that is neither None nor "auto" decides for the
        modality that takes it.

    Returns
    -------
    Modality
        Vectors if nothing decides.

    Raises
    ------
    ValueError
        If no modality of the kind is registered.
    """
    kind = getattr(getattr(backbone, "preprocessing", backbone), "kind", None)
    if isinstance(kind, str) and not isinstance(backbone, nn.Module):
        if kind not in MODALITIES:
            raise ValueError(
                "The `kind` of a preprocessing must be the name of a registered "
                f"modality, one of {[*MODALITIES]}. Got {kind!r}; call "
                f"`register_modality({kind!r}, ...)` first."
            )
        return MODALITIES[kind]
    others = [MODALITIES[name] for name in reversed(MODALITIES) if name != _OTHERWISE]
    if isinstance(backbone, nn.Module):
        for modality in others:
            if modality.takes_network(backbone):
                return modality
    if isinstance(backbone, str):
        return MODALITIES[_OF_NAMES]
    for modality in others:
        if any(name in modality.options for name in _given(options)):
            return modality
    looking = (m for m in others if X is not None and m.looks_like(X))
    return next(looking, MODALITIES[_OTHERWISE])


def _given(options):
    """Return the names of the options that are not at their defaults (list of str)."""
    return [name for name, value in (options or {}).items() if value not in _DEFAULTS]


def as_samples(
    X, preprocessing, *, image_shape=None, value_range="auto", on_error="raise"
):
    """Return X as samples that are read one at a time, when they are asked for.

    Parameters
    ----------
    X : array-like, sequence, data frame or torch.utils.data.Dataset
        For images: file paths (str or os.PathLike), PIL images, encoded images
        (bytes) or arrays, in a list, in any mix, in an array, a Series or a
        one-column data frame; an array or tensor of shape (n, h, w),
        (n, h, w, c), (n, c, h, w) or, with `image_shape`, (n, d); or a map-style
        dataset with items ``image`` or ``(image, label)``. For vectors: real numbers
        of shape (n, d).
    preprocessing : ImagePreprocessing or VectorPreprocessing
        Says by its ``kind`` what a sample is.
    image_shape : tuple of int or None, default=None
        Images only. Shape of one array sample, in px: (h, w), (h, w, c) or (c, h, w).
        Flat rows need it. Where both ends can be the channels, the last one is.
    value_range : "auto", None or tuple of float (low, high), default="auto"
        Images only. The values that stand for black and for full intensity in arrays,
        and in files and PIL images of one channel with more than 8 bits. "auto" and
        None decide over all of X. bool is black and white whatever the range.
    on_error : {"raise", "warn"}, default="raise"
        What happens to image samples that cannot be read: "raise" raises for those
        that are found without reading them; with "warn" all of them raise when they
        are read. What is no sample at all, such as an int among paths, is an error
        in any case.

    Returns
    -------
    Samples or VectorSamples
        With the range that was decided as ``value_range``.

    Raises
    ------
    TypeError
        If X or one of its samples is of a type that cannot be read.
    ValueError
        If X is empty, a file or value is missing, a shape or a value is not that of
        an image, or an option is given that the modality does not take.
    """
    modality = modality_of(backbone=preprocessing)
    options = {"image_shape": image_shape, "value_range": value_range}
    for name in _given(options):
        if name not in modality.options:
            default = "'auto'" if name == "value_range" else None
            raise ValueError(
                f"`{name}` must be {default} for a backbone that takes "
                f"{modality.noun}. Got {options[name]!r}; leave it out."
            )
    taken = {name: options[name] for name in options if name in modality.options}
    return modality.read(X, preprocessing, on_error=on_error, **taken)


def preprocessing_key(preprocessing):
    """Return a text that changes with anything that a preprocessing does.

    Parameters
    ----------
    preprocessing : Preprocessing

    Returns
    -------
    str
        For the preprocessings of this package, the key that they state and the versions
        of Pillow and torchvision, which resize. An object of any other class, including
        subclasses of these, is described by its code and its attributes. Where that is
        not possible, a text that no other object has, in this process or another.
    """
    if _is_own(preprocessing):
        key = preprocessing.key()
    else:
        key = join_key(describe(preprocessing), preprocessing)
    return f"{key};pillow={PIL.__version__};torchvision={torchvision.__version__}"


def is_describable_preprocessing(preprocessing):
    """Return whether the key of a preprocessing holds in other processes (bool)."""
    return _is_own(preprocessing) or describe(preprocessing).is_complete


def _is_own(preprocessing):
    """Return whether an object is of a class of this package, and unchanged (bool)."""
    kind = type(preprocessing)
    if not kind.__module__.startswith(f"{__package__}."):
        return False
    fields = {*kind.__dataclass_fields__}
    return {*vars(preprocessing)} <= fields and not describe(preprocessing).has_code
