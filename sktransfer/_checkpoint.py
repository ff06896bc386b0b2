"""The files that the states of trainings are kept in, named by what they train."""

from pathlib import Path

import numpy
import PIL
import sklearn
import skorch
import timm
import torch
import torchvision

from sktransfer.activations import digest
from sktransfer.training import Saver
from sktransfer.utils import Description, describe, warn_caller

__all__ = ["checkpoint_name", "describe_data", "make_savers"]

_LIBRARIES = [PIL, numpy, skorch, sklearn, timm, torch, torchvision]


def make_savers(folder, settings, boundary, data, validation, adaptation, n_phases):
    """Return what keeps the state of each phase of a training.

    Parameters
    ----------
    folder : str, os.PathLike or None
    settings : dict
        Parameters of the estimator, and its class.
    boundary : Boundary
    data : Labelled
        Samples that are trained on.
    validation : Labelled or None
    adaptation : Adaptation or None
    n_phases : int

    Returns
    -------
    list of Saver or None
        None for each phase if there is no folder, or the training has no name.
    """
    if folder is None:
        return [None] * n_phases
    origin, content = boundary.origin, [*data.samples.digests]
    settings = {
        **settings,
        **boundary.recipe.to_dict(),
        "backbone": origin.describe_prefix("output"),
        "preprocessing": origin.preprocessing,
        "runtime": boundary.runtime.key,
    }
    if adaptation is not None:
        settings["adaptation"] = adaptation.method
        content += adaptation.digests
    content = describe_data(content, data.y, data.weight)
    if validation is not None:
        held, *others = validation
        content += [b"validation", *describe_data(held.digests, *others)]
    name = checkpoint_name(settings, content)
    if name is None:
        return [None] * n_phases
    return [Saver(Path(folder) / f"{name}-{i}.pt") for i in range(n_phases)]


def checkpoint_name(settings, data):
    """Name a fit by all that its result depends on.

    Parameters
    ----------
    settings : dict
        By name, whatever changes the result, or a `Description` of it.
    data : list of bytes
        Hashes of samples, targets and weights.

    Returns
    -------
    str or None
        Hexadecimal, 32 digits. The same in every process. None, with a warning, if
        some of the settings cannot be described.
    """
    settings = {**settings, "libraries": _LIBRARIES}
    described = {name: _describe(value) for name, value in settings.items()}
    unknown = {k: d.reason for k, d in described.items() if not d.is_complete}
    if unknown:
        reasons = "; ".join(f"`{name}`: {reason}" for name, reason in unknown.items())
        warn_caller(
            "`checkpoint` needs settings that can be compared when the fit is called "
            f"again, but some cannot be described ({reasons}). So no state is kept, "
            "and a killed fit starts anew. Pass objects without open files, whose code "
            "finds what it uses by name, or set `checkpoint=None`."
        )
        return None
    words = [w for name, d in sorted(described.items()) for w in (name, d.digest)]
    return digest(*words, "data", *data).hex()[:32]


def describe_data(digests, y, weight):
    """Identify samples, targets and weights.

    Parameters
    ----------
    digests : list of bytes
        Of the samples.
    y, weight : ndarray

    Returns
    -------
    list of bytes
    """
    shape = f"{y.dtype} {y.shape}".encode()
    return [*digests, shape, y.tobytes(), weight.tobytes()]


def _describe(value):
    return value if isinstance(value, Description) else describe(value)
