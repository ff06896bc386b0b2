"""What identifies a training and its network: names of checkpoints, descriptions."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from sktransfer.activations import digest
from sktransfer.backbones import Backbone
from sktransfer.fitting._split_backbone import LabelledSamples
from sktransfer.training import HEADS, Saver
from sktransfer.utils import (
    Description,
    content_stamp,
    describe,
    join_key,
    library_versions,
    warn_caller,
)

if TYPE_CHECKING:
    from sktransfer.fitting._trainer import Trainer

# Parameters that change no result, or that the recipe and other settings cover.
_COVERED = {"backbone", "checkpoint", "device", "memory", "verbose", "weights"}
_COVERED |= {"augment", "early_stopping", "pooling", "training"}


def make_savers(
    trainer: Trainer,
    data: LabelledSamples,
    validation: LabelledSamples | None,
    n_phases: int,
) -> list[Saver | None]:
    """Return what keeps the state of each phase of a training.

    It is None for each phase if there is no folder, or the training has no name.
    """
    split, adaptation = trainer.split, trainer.adaptation
    if trainer.checkpoint is None:
        return [None] * n_phases
    head = trainer.recipe.head
    settings = {
        **{k: v for k, v in trainer.settings.items() if k not in _COVERED},
        **trainer.recipe.to_dict(),
        # A name stands for code, which may have been registered again.
        "head": HEADS.get(head, head) if isinstance(head, str) else head,
        "loss": trainer.loss,
        "backbone": split.origin.describe_prefix("output"),
        "preprocessing": split.origin.preprocessing,
        "runtime": split.runtime.key,
    }
    content = [*data.samples.digests]
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
    folder = Path(trainer.checkpoint)
    return [Saver(folder / f"{name}-{i}.pt") for i in range(n_phases)]


def checkpoint_name(settings: dict, data: list[bytes]) -> str | None:
    """Name a training by all that its result depends on, the same in every process.

    ``settings`` holds values, or a `Description` of them, and ``data`` the hashes of
    samples, targets and weights. If some settings cannot be described, the name is
    None, with a warning.
    """
    settings = {**settings, "libraries": library_versions()}
    described = {name: _describe(value) for name, value in settings.items()}
    unknown = {k: d.reason for k, d in described.items() if not d.is_complete}
    if unknown:
        reasons = "; ".join(f"`{name}`: {reason}" for name, reason in unknown.items())
        warn_caller(
            "`checkpoint` needs settings that can be compared when `fit` is called "
            f"again, but some cannot be described ({reasons}). So no state is kept, "
            "and a killed `fit` starts from the beginning. Pass objects without open "
            "files, whose code finds what it uses by name, or set `checkpoint=None`."
        )
        return None
    words = [w for name, d in sorted(described.items()) for w in (name, d.digest)]
    return digest(*words, "data", *data).hex()[:32]


def describe_data(digests: list, y: numpy.ndarray, weight: numpy.ndarray) -> list:
    """Return bytes that identify samples, by their hashes, targets and weights."""
    shape = f"{y.dtype} {y.shape}".encode()
    return [*digests, shape, y.tobytes(), weight.tobytes()]


def _describe(value):
    return value if isinstance(value, Description) else describe(value)


def describe_network(parameters: Mapping[str, Any]) -> dict[str, dict]:
    """Describe the parameters that a network is built by, to notice changes later.

    ``weights`` that name a file are compared by the content of the file, modules and
    callables by theirs, as far as the versions of libraries are the same.
    """
    libraries = {"libraries": [sys.version, library_versions()]}
    return {
        name: _describe_parameter(value) | libraries
        for name, value in parameters.items()
    }


def _describe_parameter(value):
    value = value.item() if isinstance(value, numpy.generic) else value
    value = tuple(value) if isinstance(value, list) else value
    kind, content = _content(value)
    return {"shown": _show(value), "kind": kind, "content": content}


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


def check_unchanged(before: Mapping, now: Mapping, where: str, restart: str) -> None:
    """Raise an error if a training would go on with another network than before.

    ``before`` and ``now`` are from :func:`describe_network`. ``where`` and ``restart``
    are for the message: what goes on, and how to start again.
    """
    for name, new in now.items():
        old = before[name]
        if _is_same(old, new):
            continue
        after = f"after {name}={old['shown']}"
        if old["shown"] == new["shown"]:
            after = "whose content is not that of the first training"
        raise ValueError(
            f"`{name}` must not change {where}, which trains the fitted network "
            f"further. Got {name}={new['shown']} {after}; {restart} to start again."
        )


def _is_same(old, new):
    if old["content"] == new["content"]:
        return True
    # A file may be gone once it was read, and the code of libraries may be another.
    is_gone = old["kind"] == "file" and new["kind"] == "absent"
    is_other = new["kind"] == "object" and old["libraries"] != new["libraries"]
    return (is_gone or is_other) and old["shown"] == new["shown"]
