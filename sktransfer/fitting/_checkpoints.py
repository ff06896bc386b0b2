"""Checkpoints of a training, named by everything that its result depends on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy

from sktransfer.activations import digest
from sktransfer.training import HEADS, LabelledSamples, Saver, training_precision
from sktransfer.utils import Description, describe, library_versions, warn_caller

if TYPE_CHECKING:
    from sktransfer.fitting._trainer import Trainer

# Parameters that change no result, or whose effect other settings describe.
_COVERED = {"backbone", "checkpoint", "device", "memory", "verbose", "weights"}
_COVERED |= {"augment", "early_stopping", "pooling", "training"}


def make_savers(
    trainer: Trainer,
    data: LabelledSamples,
    validation: LabelledSamples | None,
    n_phases: int,
) -> list[Saver | None]:
    """Return the saver of each phase of a training.

    They are None if there is no folder, or the training cannot be named.
    """
    split, adaptation = trainer.split, trainer.adaptation
    if trainer.checkpoint is None:
        return [None] * n_phases
    head = trainer.recipe.head
    settings = {
        **{k: v for k, v in trainer.settings.items() if k not in _COVERED},
        **trainer.recipe.to_dict(),
        # Other code may have been registered under the name.
        "head": HEADS.get(head, head) if isinstance(head, str) else head,
        "loss": trainer.loss,
        "backbone": split.origin.describe_prefix("output"),
        "preprocessing": split.origin.preprocessing,
        "runtime": split.runtime.key,
        "training_precision": training_precision(split.runtime.device),
    }
    ranks = split.runtime.ranks
    if ranks.n > 1:  # which divide the draws
        settings["n_processes"] = ranks.n
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
    return [Saver(folder / f"{name}-{i}.pt", ranks=ranks) for i in range(n_phases)]


def checkpoint_name(settings: dict, data: list[bytes]) -> str | None:
    """Name a training by everything that its result depends on.

    The name is the same in every process. ``settings`` holds values, or a `Description`
    of them, and ``data`` the bytes of :func:`describe_data`. If some settings cannot be
    described, a warning says so, and the name is None.
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
