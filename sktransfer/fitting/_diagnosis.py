"""Diagnostics after `fit`: overfitting, feature drift, and freezing too much."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from sktransfer.activations import Activations, Pass, Target, gather
from sktransfer.compute import fixed_threads
from sktransfer.fitting._split_backbone import SplitBackbone
from sktransfer.model import make_pool
from sktransfer.training import (
    LabelledSamples,
    Network,
    Pooling,
    ResolvedRecipe,
    lda_predictions,
)
from sktransfer.utils import TransferWarning, warn_caller

_COMPARED = 64  # number of samples that are compared before and after the training
# Features are undone if both figures are reached, on enough samples.
_FEWEST = 32
_LARGE_DRIFT = 0.5
_LARGE_DROP = 0.15  # of the quality
# Differences from the probe that may be noise.
_NOISE = 0.05  # of the quality; or one and a half samples, if that is more
_LOSS_NOISE = 0.03
# A network overfits if both figures are reached, on enough validation samples.
_RISE = 1.2  # ratio of the last validation loss to the lowest
_GAP = 0.15  # between the qualities on training and validation samples
_FEWEST_VALIDATED = 30

ENOUGH_FOR_DEPTH = 500  # samples, below which the depth is not checked
_PROBED = 150  # number of samples
_EARLIER = (1 / 3, 2 / 3)  # of the frozen stages

DescribeQuality = Callable[[float], str]  # puts a quality into words


class Snapshot(NamedTuple):
    """Features and quality of a network on a few samples.

    Attributes
    ----------
    features : ndarray of shape (n, d)
        Features that the head receives.
    quality : float
        Accuracy; for regression, one minus the ratio of the loss to that of the best
        constants.
    loss : float
        Mean training loss of the samples.
    """

    features: np.ndarray
    quality: float
    loss: float


def take_snapshot(
    network: Network,
    activations: Activations,
    y: torch.Tensor,
    *,
    loss: Callable,
    quality: Callable,
    batch_size: int,
    most: int = _COMPARED,
) -> Snapshot:
    """Compute features and quality of a network on at most ``most`` samples.

    The samples are evenly spaced. ``loss`` maps scores and targets to the loss of each
    sample, and ``quality`` maps scores, targets and ``loss`` to a number.
    """
    n = len(y)
    rows = np.unique(np.linspace(0, n - 1, min(n, most)).astype(int))
    training = network.head.training
    features = network.features(activations[rows], batch_size)
    device = next((p.device for p in network.head.parameters()), features.device)
    with torch.no_grad(), fixed_threads():
        scores = network.head.eval()(features.to(device)).cpu()
    network.head.train(training)
    mean_loss = float(loss(scores, y[rows]).mean())
    return Snapshot(features.numpy(), quality(scores, y[rows], loss), mean_loss)


def drift(before: np.ndarray, after: np.ndarray) -> float:
    """Measure how much the features (n, d) of the same samples have changed.

    The drift is one minus the linear centred kernel alignment [1]_: 0 if the features
    are equal up to rotation and scale, and 1 if they are unrelated.

    References
    ----------
    .. [1] Kornblith, S., Norouzi, M., Lee, H., & Hinton, G. (2019). Similarity of
       neural network representations revisited. *International Conference on Machine
       Learning*. https://arxiv.org/abs/1905.00414
    """
    A, B = (_centred(F.astype(np.float64)) for F in (before, after))
    if not A.any() or not B.any():  # the features of all samples are equal
        return float(A.any() != B.any())
    A, B = A @ A.T, B @ B.T  # (n, n)
    return float(1 - (A * B).sum() / np.linalg.norm(A) / np.linalg.norm(B))


def _centred(F):
    """Centre features, and replace differences that are due to rounding by zeros."""
    away = F - F.mean(axis=0)
    return np.where(np.abs(away).max() > 1e-6 * np.abs(F).max(), away, 0.0)


def check_drift(
    before: Snapshot,
    after: Snapshot,
    moved: float,
    lr: float,
    describe: DescribeQuality,
) -> None:
    """Warn if the training has undone the pretrained features.

    Both snapshots are of the same samples, the first with the head of the probe, and
    ``moved`` is the drift. ``describe`` puts a quality into words.
    """
    if not _is_undone(before, after, moved):
        return
    warn_caller(
        f"The training undid the pretrained features: {describe(before.quality)} on "
        f"{len(before.features)} training samples with the probe that it began with, "
        f"{describe(after.quality)} now, and the features have moved by {moved:.2f} of "
        f"1. Take a lower `lr` (it is {lr:g}) or `training__backbone_lr_ratio`, or "
        "freeze more with `freeze`.",
        TransferWarning,
    )


def _is_undone(before, after, moved):
    lost, are_enough = before.quality - after.quality, len(before.features) >= _FEWEST
    return are_enough and moved >= _LARGE_DRIFT and lost >= _LARGE_DROP


def check_start(
    before: Snapshot,
    after: Snapshot,
    moved: float,
    n_epochs: int,
    recipe: ResolvedRecipe,
    describe: DescribeQuality,
    max_epochs: int | None = None,
) -> None:
    """Warn if the training has ended below the probe that it began with.

    The quality must be lower by more than 0.05, or by more than one and a half samples
    if there are few, or the loss higher by more than 0.03 if nothing else is minimised.
    There is no warning where :func:`check_drift` warns, nor after the single epoch of
    `partial_fit`, which is too early. The recipe is that of the whole training.
    ``max_epochs`` is the user's parameter, if a trial may have chosen fewer epochs.
    """
    n = len(before.features)
    goes_on = n_epochs == 1 < recipe.max_epochs and not recipe.early_stopping
    if goes_on or _is_undone(before, after, moved):
        return
    is_worse = before.quality - after.quality > max(_NOISE, 1.5 / n)
    has_risen = after.loss - before.loss > _LOSS_NOISE and _minimises_loss(recipe)
    if not is_worse and not has_risen:
        return
    warn_caller(
        f"The training ended below the linear probe that it began with: "
        f"{describe(before.quality)} on {n} training samples and a loss of "
        f"{before.loss:.2g} before, {describe(after.quality)} and {after.loss:.2g} "
        f"now. {_more_epochs(recipe, max_epochs)}, take a lower `lr` (it is "
        f"{recipe.lr:g}), or keep the probe with `freeze='all'`.",
        TransferWarning,
    )


def _more_epochs(recipe, max_epochs):
    chosen = recipe.max_epochs
    if max_epochs is None or max_epochs == chosen:
        return f"Raise `max_epochs` (it is {chosen})"
    return f"Set `early_stopping=False` (it chose {chosen} of {max_epochs} epochs)"


def _minimises_loss(recipe):
    """Whether nothing but the loss of the unchanged samples is minimised."""
    names = "views", "activations", "dropout", "l2_sp", "mixup", "cutmix"
    return not any(getattr(recipe, name) for name in names)


def check_overfitting(
    on_training: Snapshot,
    on_validation: Snapshot,
    n_validation: int,
    history: list,
    describe: DescribeQuality,
) -> None:
    """Warn if the quality on validation samples is far below that on training samples.

    Both snapshots are of the trained network, whose validation loss has risen.
    """
    gap = on_training.quality - on_validation.quality
    if gap < _GAP + 1 / np.sqrt(min(n_validation, 256)):
        return
    losses = [row["valid_loss"] for row in history]
    warn_caller(
        f"The training overfits: {describe(on_training.quality)} on training samples, "
        f"{describe(on_validation.quality)} on {n_validation} of validation, whose "
        f"loss has risen from {min(losses):.3g} to {losses[-1]:.3g}. Set "
        "`early_stopping=True`, freeze more with `freeze`, set `augment`, or raise "
        "`training__dropout`, `training__weight_decay` or `training__l2_sp`.",
        TransferWarning,
    )


def has_risen(history, n_validation: int) -> bool:
    """Whether the validation loss has risen, on enough samples."""
    losses = [row.get("valid_loss", np.nan) for row in history]
    is_known = n_validation >= _FEWEST_VALIDATED and len(losses) > 1
    return is_known and losses[-1] > _RISE * min(losses)


def check_depth(split: SplitBackbone, data: LabelledSamples, freeze) -> None:
    """Warn if a probe of an earlier stage is better than one at the boundary.

    Nothing is checked with ``freeze="auto"``, or if fewer than half of the stages are
    frozen. The targets must be codes of classes. The activations that are computed for
    the check are stored, and used by the fit.
    """
    backbone, target = split.origin, split.target
    depth = backbone.n_stages_before(target.boundary)
    if freeze == "auto" or depth < max(3, len(backbone.stages) / 2):
        return
    rows = np.unique(np.linspace(0, len(data.y) - 1, _PROBED).astype(int))
    codes = np.unique(data.y[rows], return_inverse=True)[1]
    names = [backbone.stage_names[round(share * depth) - 1] for share in _EARLIER]
    average = Pooling("avg")
    earlier = [Target(n, make_pool(backbone, n, average)) for n in dict.fromkeys(names)]
    a_pass = Pass(
        backbone, [*earlier, target], store=split.store, runtime=split.runtime
    )
    *found, last = gather(a_pass, data.samples.take(rows))
    if split.has_stages:
        pool = make_pool(backbone, target.boundary, average)
        last = pool(a_pass.as_input(last)).numpy()
    right = [lda_predictions(np.stack(F), codes) == codes for F in (*found, last)]
    names = [t.boundary for t in (*earlier, target)]
    _warn_of_depth(backbone, names, right, freeze)


def _warn_of_depth(backbone, names, right, freeze):
    """Warn if a stage is clearly better than the last, by samples predicted right."""
    *earlier, last = right
    best = int(np.argmax([r.mean() for r in earlier]))
    gap = earlier[best].astype(float) - last
    if gap.mean() < max(0.05, 3 * gap.std() / np.sqrt(len(gap))):
        return
    stage = names[best]
    warn_caller(
        f"`freeze={freeze!r}` freezes too much: of {len(last)} samples, linear probes "
        f"predict {earlier[best].mean():.0%} correctly after {stage!r} and "
        f"{last.mean():.0%} after {names[-1]!r}. Freeze less, for example with "
        f"`freeze={backbone.n_stages_before(stage)}`, or set `freeze='auto'`.",
        TransferWarning,
    )
