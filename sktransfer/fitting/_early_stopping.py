"""Early stopping: a trial with samples held out, and the training after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sktransfer.fitting._unused import warn_once
from sktransfer.training import (
    FitSamples,
    LabelledSamples,
    epochs_to_wait,
    hold_out,
    monitors_validation,
)

if TYPE_CHECKING:
    from sktransfer.fitting._trainer import Trainer


def divide(trainer: Trainer, data: LabelledSamples, seed: int) -> FitSamples:
    """Hold out samples for a trial, with early stopping.

    A head that is solved needs none. There is a warning if the epochs are too few for
    two trainings.
    """
    recipe = trainer.recipe
    if not recipe.early_stopping or trainer.is_solved:
        return FitSamples(data)
    strata = trainer.outputs.strata(data.y)
    held = hold_out(strata, recipe.validation_fraction, seed)
    parts = FitSamples(*data.hold_out(held))
    fewest = 2 * _patience(trainer, parts)
    if fewest <= trainer.n_epochs:
        return FitSamples(data, trial=parts)
    warn_once(
        ["early_stopping"],
        "to hold samples out for a trial, and to train on all of them after it, needs "
        f"`max_epochs` of at least {fewest} here. Raise it, lower "
        "`early_stopping__n_iter_no_change`, or give `X_val` and `y_val` to `fit`.",
    )
    return FitSamples(data)


def _patience(trainer, samples):
    recipe = trainer.recipe
    n_batches = -(-len(samples.train.y) // recipe.batch_size)
    n_steps = -(-n_batches // recipe.accumulate_grad_batches)
    return epochs_to_wait(recipe.n_iter_no_change, n_steps)


def best_epoch(rows: Sequence[Mapping]) -> int:
    """Return the last epoch of a history that was better than all before; 0 if none."""
    found = [i for i, row in enumerate(rows, 1) if row.get("valid_best") is True]
    return found[-1] if found else 0


def n_epochs_in(rows: Sequence[Mapping]) -> int:
    """Count the epochs of a history without those of trials."""
    return sum(row.get("is_trial") is not True for row in rows)


def after_trial(trainer: Trainer, rows: Sequence[Mapping]) -> Trainer:
    """Return the trainer of all samples, after a trial with this history.

    It has as many epochs as the trial, whose rate had not fallen yet at its best epoch,
    so that a training of fewer epochs would be another one. That is so as well where no
    epoch was better than the start, which a few samples cannot tell.
    """
    recipe = replace(trainer.recipe, early_stopping=False, max_epochs=len(rows))
    callbacks = [c for c in trainer.callbacks if not monitors_validation(c)]
    split = replace(trainer.split, recipe=recipe)
    return replace(trainer, split=split, callbacks=callbacks)
