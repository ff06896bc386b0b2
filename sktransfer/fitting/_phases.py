"""Training in epochs, in one or several phases, and the diagnostics after it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import nn

from sktransfer.activations import Target, add_trained
from sktransfer.fitting._checkpoints import make_savers
from sktransfer.fitting._diagnosis import (
    check_drift,
    check_overfitting,
    check_start,
    drift,
    has_risen,
    take_snapshot,
)
from sktransfer.fitting._in_common import check_divisible
from sktransfer.fitting._settle import choose_epochs
from sktransfer.fitting._split_backbone import count_trainable, suffix_above
from sktransfer.training import (
    Mix,
    Network,
    SuffixNet,
    is_divisible,
    stages_above,
    train,
    trains_in_bfloat16,
    unfreezing_phases,
)

if TYPE_CHECKING:
    from sktransfer.fitting._trainer import Trainer


class Trained(NamedTuple):
    """Result of a training.

    Attributes
    ----------
    network : Network
        Suffix, pool and head above the boundary.
    net : SuffixNet
    rows : list of dict
        History, with one row per epoch.
    report : list of dict
        What the pass through the frozen stages took from the store, computed and kept.
    strength : float or None
        Strength of the penalty of the probe; None without a probe.
    drift : float or None
        Drift of the features; None if it was not measured.
    online : tuple or None
        Summary of all samples so far, for a head that is solved in parts.
    state : dict or None
        State that the adaptation method returned.
    n_trainable : int or None
        Number of trained parameters, of the stages or their adapters and of the head.
    """

    network: Network
    net: SuffixNet
    rows: list
    report: list
    strength: float | None = None
    drift: float | None = None
    online: tuple | None = None
    state: dict | None = None
    n_trainable: int | None = None


def run_phases(
    trainer: Trainer, suffix: nn.Module, data, training, validation
) -> tuple[Trained, list]:
    """Train suffix and head, in place, in one phase or several.

    ``data`` and ``validation`` are samples, and ``training`` holds the activations of
    ``data`` at the boundary. Gradual unfreezing has several phases. Also returns the
    savers, whose files are needed until the fit is over.
    """
    split, phases = trainer.split, plan_phases(trainer)
    savers = make_savers(trainer, data, validation, len(phases))
    head = strength = before = function = None
    rows: list = []
    report: list = []
    for (name, n, span), saver in zip(phases, savers, strict=True):
        target, part, seen = _inputs_of_phase(name, trainer, suffix, data, training)
        network = split.network(target, part, head)
        if head is None:
            strength = trainer.start_head(network, seen)
            head, before = network.head, _snapshot(trainer, network, seen)
        objective, more = trainer.objective(network, target, function, span)
        function = objective and objective.function
        net = train_phase(
            trainer, network, seen, validation, target, n, objective, saver
        )
        rows, report = rows + _rows_of(net, name, phases), report + more
    moved = None
    if not trainer.is_trial:
        moved = diagnose(trainer, before, network, seen, validation, target, rows)
    if name != split.boundary:  # the epochs ended before this boundary was reached
        network = split.network(split.target, suffix, head)
        net = trainer.net(network, rows)
    trained = Trained(network, net, rows, report, strength, moved)
    trained = trained._replace(n_trainable=count_trainable(network))
    return trained, [*filter(None, savers)]


def _rows_of(net, name, phases):
    """Return the history of a phase; of one of several, with its boundary."""
    rows = net.history.to_list()
    return rows if len(phases) == 1 else [{**row, "boundary": name} for row in rows]


def plan_phases(trainer: Trainer) -> list[tuple]:
    """Return the boundary, the epochs and the span of each phase, in order.

    The span is the part of the training that the phase is, within (0, 1).
    """
    phases = unfreezing_phases(
        trainer.split.backbone,
        trainer.split.boundary,
        every=trainer.recipe.unfreeze_every,
        max_epochs=trainer.n_epochs,
        head_first=not trainer.recipe.starts_from_probe,
    )
    ends = np.cumsum([0, *(n for _, n in phases)]) / trainer.n_epochs
    spans = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    return [(*phase, span) for phase, span in zip(phases, spans, strict=True)]


def _inputs_of_phase(name, trainer, suffix, data, training):
    """Return the target, the stages and the activations of a phase."""
    split = trainer.split
    if name == split.boundary:
        return split.target, suffix, training
    target = Target(name)
    part = suffix_above(split.backbone, name, trainer.recipe)
    return target, part, trainer.load(data, target)[0]


def train_phase(
    trainer: Trainer,
    network: Network,
    training,
    validation,
    target: Target,
    n_epochs: int,
    objective=None,
    saver=None,
) -> SuffixNet:
    """Train a network, in place, on activations at a target."""
    split, recipe = trainer.split, replace(trainer.recipe, max_epochs=n_epochs)
    span, device = (target.boundary, split.head_boundary), split.runtime.device
    how = *span, network.suffix, recipe.batch_size, device
    check_divisible(split.runtime.ranks, network.train(), split.example(target))
    if saver is not None:
        saver.views = training.views
    mix = None
    if recipe.mixes:
        mix = Mix(split.layout(target), mixup=recipe.mixup, cutmix=recipe.cutmix)
    net = train(
        network,
        training.data,
        loss=trainer.loss,
        recipe=recipe,
        device=device,
        seed=split.seed,
        validation=validation and trainer.load_held(validation, target).data,
        stages_above=stages_above(split.backbone, target.boundary),
        mix=mix,
        objective=objective,
        nonlinearity=trainer.outputs.nonlinearity(),
        callbacks=[*trainer.callbacks],
        saver=saver,
        divides=objective is None and _divides(split, network, target),
        most_positions=split.runtime.most_positions,
        in_bfloat16=trains_in_bfloat16(split.backbone, *how),
        ranks=split.runtime.ranks,
        verbose=split.runtime.verbose,
    )
    add_trained(
        split.backbone, target.boundary, len(training.y) * len(net.history.to_list())
    )
    return net


def _divides(split, network, target):
    """Whether the batches of this training are divided among threads."""
    if split.runtime.device.type != "cpu":
        return False
    passed = split.backbone.multiply_adds(target.boundary, split.head_boundary)
    work = passed * split.recipe.batch_size
    return is_divisible(network.train(), split.example(target), work)


def _snapshot(trainer, network, data, **most):
    return take_snapshot(
        network,
        data.activations,
        data.y,
        loss=trainer.loss,
        quality=trainer.outputs.quality,
        batch_size=trainer.split.runtime.batch_size,
        **most,
    )


def _most_epochs(trainer):
    """Return how many epochs a trial could choose from; None if there was none."""
    settings = trainer.settings
    if not settings.get("early_stopping"):
        return None
    return choose_epochs(settings["max_epochs"])


def diagnose(trainer: Trainer, before, network, training, validation, target, history):
    """Warn about signs of a bad fit; return the drift of the features (float)."""
    after, recipe = _snapshot(trainer, network, training), trainer.recipe
    if training.views is None:  # as with "auto" for samples that are not images
        recipe = replace(recipe, views=None)
    moved = drift(before.features, after.features)
    describe = trainer.outputs.describe_quality
    if recipe.starts_from_probe:
        check_drift(before, after, moved, recipe.lr, describe)
        if trainer.is_plain:
            most = _most_epochs(trainer)
            check_start(before, after, moved, len(history), recipe, describe, most)
    is_watched = validation is not None and not recipe.early_stopping
    if is_watched and has_risen(history, len(validation.y)):
        both = training, trainer.load_held(validation, target)
        seen, held = (_snapshot(trainer, network, data, most=256) for data in both)
        check_overfitting(seen, held, len(validation.y), history, describe)
    return moved
