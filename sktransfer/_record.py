"""The record of a training: for the model card, and for training that goes on."""

import os
import sys

import numpy as np
import pandas as pd
import timm
import torch
import torchvision

from sktransfer.backbones import Backbone, describe_training
from sktransfer.utils import content_stamp, describe, join_key

__all__ = [
    "check_unchanged",
    "describe_network",
    "describe_trained",
    "epochs_table",
]

_LIBRARIES = (torch, torchvision, timm)


def describe_trained(card, trainer, *, estimator, depth, n_samples, n_epochs):
    """Return the entries of a model card with what was trained.

    Parameters
    ----------
    card : dict
        Of the backbone; of the fitted model if its training went on.
    trainer : Trainer
    estimator : str
        Name of the class.
    depth : int
        Number of whole frozen stages.
    n_samples : int
        Distinct samples of this training.
    n_epochs : int
        Of all trainings.

    Returns
    -------
    dict
    """
    before, outputs = card["trained"] or {}, trainer.outputs
    entries = {
        "strategy": _strategy(trainer, depth),
        "samples": before.get("samples", n_samples),
        "outputs": outputs.n_outputs,
        "freeze_depth": depth,
        "boundary": trainer.boundary.name,
        "epochs": n_epochs,
    }
    if outputs.classes is not None:
        entries["classes"] = [str(label) for label in outputs.classes.tolist()]
    if before:
        entries["samples_later"] = before.get("samples_later", 0) + n_samples
    if trainer.adaptation is not None:
        entries |= trainer.adaptation.describe()
    return {**card, "trained": describe_training(estimator=estimator, **entries)}


def _strategy(trainer, depth):
    """Name what was trained."""
    recipe = trainer.recipe
    if not trainer.boundary.has_stages:
        return "linear probe" if trainer.is_solved else "head"
    if recipe.adapter is not None:
        return "adapters (lora)"
    kind = "partial" if depth else "full"
    gradual = ", gradual unfreezing" if recipe.unfreeze_every else ""
    return f"{kind} fine-tuning{gradual}"


def epochs_table(rows):
    """Return a table of epochs, numbered from 1 (DataFrame).

    Parameters
    ----------
    rows : list of dict
        Of skorch's histories.
    """
    table = pd.DataFrame(rows).drop(columns="batches", errors="ignore")
    return table.assign(epoch=range(1, len(table) + 1))


def describe_network(parameters):
    """Describe what a network is built by, so that a change is noticed later.

    Parameters
    ----------
    parameters : dict
        By name: what says which network it is and how it is cut. ``weights`` that name
        a file go by the content of the file, modules and callables by theirs.

    Returns
    -------
    dict of str to dict
        By name: what a message shows, the content, and the versions of the libraries
        that it was described with.
    """
    return {name: _describe(value) for name, value in parameters.items()}


def check_unchanged(before, now, where, anew):
    """Raise an error if another network is asked for than the one that goes on.

    Parameters
    ----------
    before, now : dict
        What :func:`describe_network` gave in the first training, and gives now.
    where : str
        What goes on, for the message, as ``"with `warm_start=True`"``.
    anew : str
        What to do to start anew, for the message.

    Raises
    ------
    ValueError
        If they differ.
    """
    for name, new in now.items():
        old = before[name]
        if _is_same(old, new):
            continue
        after = f"after {name}={old['shown']}"
        if old["shown"] == new["shown"]:
            after = "whose content is not that of the first training"
        raise ValueError(
            f"`{name}` must stay as it is {where}, which goes on with the network that "
            f"is there. Got {name}={new['shown']} {after}; {anew} to start anew."
        )


def _is_same(old, new):
    if old["content"] == new["content"]:
        return True
    # A file may be gone once it was read, and the code of libraries may be another.
    is_gone = old["kind"] == "file" and new["kind"] == "absent"
    is_other = new["kind"] == "object" and old["libraries"] != new["libraries"]
    return (is_gone or is_other) and old["shown"] == new["shown"]


def _describe(value):
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list):
        value = tuple(value)
    kind, content = _content(value)
    return {
        "shown": _show(value),
        "kind": kind,
        "content": content,
        "libraries": [sys.version, *(str(m.__version__) for m in _LIBRARIES)],
    }


def _content(value):
    if isinstance(value, Backbone):
        return "object", value.fingerprint
    if isinstance(value, str | os.PathLike):
        if os.path.isfile(value):
            return "file", content_stamp(value)
        return "absent", os.fspath(value)
    is_plain = value is None or isinstance(value, int | float | tuple)
    return "plain" if is_plain else "object", join_key(describe(value), value)


def _show(value):
    if value is None or isinstance(value, str | int | float | tuple):
        return repr(value)
    name = getattr(value, "__qualname__", type(value).__name__)
    return os.fspath(value) if isinstance(value, os.PathLike) else f"<{name}>"
