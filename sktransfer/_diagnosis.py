"""What figures of a fit show to be wrong with it; silent where they don't."""

import warnings
from typing import NamedTuple

import numpy as np
import torch

from sktransfer.activations import Pass, Pool, Target, gather
from sktransfer.compute import fixed_threads
from sktransfer.utils import TransferWarning

__all__ = [
    "Look",
    "check_depth",
    "check_drift",
    "check_overfitting",
    "check_start",
    "drift",
    "look",
]

_LOOKED_AT = 64  # samples that are looked at before and after
_FEWEST = 32  # below, a share says little
_UNLIKE = 0.5  # drift of features that are no longer the pretrained ones
_WORSE = 0.15  # loss of accuracy that shows it

_NOISE = 0.05  # of a quality; of fewer than 30 samples, one and a half of them
_LOSS_NOISE = 0.03  # of a loss

_RISEN = 1.2  # times the lowest loss of the validation
_GAP = 0.15  # between the accuracies of training and validation
_VALIDATED = 30

_MANY = 500  # samples from which on the depth is looked at
_PROBED = 150
_EARLIER = (1 / 3, 2 / 3)  # of the frozen stages


class Look(NamedTuple):
    """What a network makes of a few samples.

    Attributes
    ----------
    features : ndarray of shape (n, d)
        What the head sees.
    quality : float
        Accuracy; of numbers, the share of the loss of the best constant that is gone.
    loss : float
        Mean loss of the samples, as the training minimises it.
    """

    features: np.ndarray
    quality: float
    loss: float


def look(estimator, network, activations, y, most=_LOOKED_AT):
    """Look at what a network makes of a few samples, evenly spaced.

    Parameters
    ----------
    estimator : FineTunedEstimator
    network : Network
        With a head.
    activations : Activations
    y : torch.Tensor
    most : int, default=64

    Returns
    -------
    Look
    """
    n = len(y)
    rows = np.unique(np.linspace(0, n - 1, min(n, most)).astype(int))
    modes = network.head.training
    features = network.features(activations[rows], estimator._runtime().batch_size)
    device = next((p.device for p in network.head.parameters()), features.device)
    with torch.no_grad(), fixed_threads():
        scores = network.head.eval()(features.to(device)).cpu()
    network.head.train(modes)
    loss = float(estimator._loss()(scores, y[rows]).mean())
    return Look(features.numpy(), estimator._quality(scores, y[rows]), loss)


def drift(before, after):
    """Return how far features have gone, whatever their basis (float).

    Parameters
    ----------
    before, after : ndarray of shape (n, d)
        Of the same samples.

    Returns
    -------
    float
        One less the linear centred kernel alignment: 0 for features that are equal up
        to orthogonal maps and scale, 1 for ones that have nothing in common.

    References
    ----------
    .. [1] Kornblith, S., Norouzi, M., Lee, H., & Hinton, G. (2019). Similarity of
       neural network representations revisited. *International Conference on Machine
       Learning*. https://arxiv.org/abs/1905.00414
    """
    A, B = (_centred(F.astype(np.float64)) for F in (before, after))
    if not A.any() or not B.any():  # all samples alike
        return float(A.any() != B.any())
    A, B = A @ A.T, B @ B.T  # (n, n)
    return float(1 - (A * B).sum() / np.linalg.norm(A) / np.linalg.norm(B))


def _centred(F):
    """Centre features; what is left by rounding is zero."""
    away = F - F.mean(axis=0)
    return np.where(np.abs(away).max() > 1e-6 * np.abs(F).max(), away, 0.0)


def check_drift(before, after, moved, lr, say):
    """Warn where training has undone the features that it began with.

    Parameters
    ----------
    before, after : Look
        Of the same samples; before with the head of the probe.
    moved : float
        The drift.
    lr : float
    say : callable
        From a quality to words.

    Warns
    -----
    TransferWarning
    """
    if not _is_undone(before, after, moved):
        return
    warnings.warn(
        f"The training undid the pretrained features: {say(before.quality)} on "
        f"{len(before.features)} training samples with the probe that it began with, "
        f"{say(after.quality)} now, and the features have moved by {moved:.2f} of 1. "
        f"Take a lower `lr` (it is {lr:g}) or `backbone_lr_ratio`, or freeze more with "
        "`freeze`.",
        TransferWarning,
        stacklevel=7,
    )


def _is_undone(before, after, moved):
    lost = before.quality - after.quality
    return len(before.features) >= _FEWEST and moved >= _UNLIKE and lost >= _WORSE


def check_start(estimator, before, after, moved, n_epochs):
    """Warn where training has ended below the probe that it began with.

    Parameters
    ----------
    estimator : FineTunedEstimator
    before, after : Look
        Of the same training samples; before with the head of the probe.
    moved : float
        The drift; where :func:`check_drift` warns, this does not.
    n_epochs : int
        Epochs of the training. After one that others shall follow, as of `partial_fit`,
        it is too early to say.

    Warns
    -----
    TransferWarning
        If the quality is lower by more than 0.05, or one and a half samples if they are
        few; or if the loss is higher by more than 0.03 where it alone is minimised.
    """
    n, say = len(before.features), estimator._say
    goes_on = n_epochs == 1 < estimator.max_epochs and not estimator.early_stopping
    if goes_on or _is_undone(before, after, moved) or not estimator._is_plain():
        return
    is_worse = before.quality - after.quality > max(_NOISE, 1.5 / n)
    has_risen = after.loss - before.loss > _LOSS_NOISE and _minimises_loss(estimator)
    if not is_worse and not has_risen:
        return
    warnings.warn(
        f"The training ended below the linear probe that it began with: "
        f"{say(before.quality)} on {n} training samples and a loss of "
        f"{before.loss:.2g} before, {say(after.quality)} and {after.loss:.2g} now. "
        f"Raise `max_epochs` (it is {estimator.max_epochs}), take a lower `lr` (it is "
        f"{estimator.lr:g}), or keep the probe with `freeze='all'`.",
        TransferWarning,
        stacklevel=7,
    )


def _minimises_loss(estimator):
    """Whether the loss of the samples as they are is all that is minimised."""
    changes = "augment_activations", "dropout", "l2_sp", "mixup", "cutmix"
    is_changed = any(getattr(estimator, name) for name in changes)
    return estimator._chosen_views()[0] is None and not is_changed


def check_overfitting(estimator, network, trained, validation, history):
    """Warn where the validation loss has risen and its accuracy is far below.

    Parameters
    ----------
    estimator : FineTunedEstimator
    network : Network
        Trained.
    trained, validation : (Activations, torch.Tensor)
        Activations and targets.
    history : list of dict

    Warns
    -----
    TransferWarning
    """
    losses = [row.get("valid_loss", np.nan) for row in history]
    n = len(validation[1])
    if n < _VALIDATED or len(losses) < 2 or not losses[-1] > _RISEN * min(losses):
        return
    on_training, on_others = (
        look(estimator, network, *data, most=256).quality
        for data in (trained, validation)
    )
    if on_training - on_others < _GAP + 1 / np.sqrt(min(n, 256)):
        return
    say = estimator._say
    warnings.warn(
        f"The training overfits: {say(on_training)} on training samples, "
        f"{say(on_others)} on {n} of validation, whose loss has risen from "
        f"{min(losses):.3g} to {losses[-1]:.3g}. Set `early_stopping=True`, freeze "
        "more with `freeze`, set `augment`, or raise `dropout`, `weight_decay` or "
        "`l2_sp`.",
        TransferWarning,
        stacklevel=7,
    )


def check_depth(estimator, samples, y, predict):
    """Warn where a probe of an earlier stage is better than one at the boundary.

    Only where `freeze` was given and is deep, and there are many samples; what goes
    through the frozen stages for it is stored for the fit.

    Parameters
    ----------
    estimator : FineTunedEstimator
        Whose backbone is cut.
    samples : Samples or VectorSamples
    y : ndarray of shape (n_samples,)
        Codes of classes.
    predict : callable
        From features and codes to predictions of each sample by all others.

    Warns
    -----
    TransferWarning
    """
    backbone, depth = estimator._pretrained, estimator.freeze_depth_
    shallow = depth < max(3, len(backbone.stages) / 2)
    if estimator.freeze == "auto" or len(samples) < _MANY or shallow:
        return
    rows = np.unique(np.linspace(0, len(samples) - 1, _PROBED).astype(int))
    codes = np.unique(y[rows], return_inverse=True)[1]
    names = [backbone.stage_names[round(share * depth) - 1] for share in _EARLIER]
    pools = {name: _pool(estimator, name) for name in (*names, estimator.boundary_)}
    targets = [Target(name, pools[name]) for name in dict.fromkeys(names)]
    a_pass = Pass(
        backbone,
        [*targets, estimator._target],
        store=estimator._store(),
        runtime=estimator._runtime(),
    )
    *earlier, last = gather(a_pass, samples.take(rows))
    if not isinstance(estimator._target.tap, Pool):
        z = torch.from_numpy(np.stack(last)).float()
        last = pools[estimator.boundary_](z).numpy()
    right = [predict(np.stack(F), codes) == codes for F in (*earlier, last)]
    _warn_of_depth(backbone, targets, right, estimator)


def _pool(estimator, name):
    backbone = estimator._pretrained
    shape = backbone.activation_shape(name)
    return Pool("avg", 1, shape, estimator.preprocessing_.input_shape)


def _warn_of_depth(backbone, targets, right, estimator):
    *earlier, last = right
    best = int(np.argmax([r.mean() for r in earlier]))
    gap = earlier[best].astype(float) - last
    if gap.mean() < max(0.05, 3 * gap.std() / np.sqrt(len(gap))):
        return
    stage = targets[best].boundary
    warnings.warn(
        f"`freeze={estimator.freeze!r}` keeps more than is good: of {len(last)} "
        f"samples, probes tell {earlier[best].mean():.0%} right after {stage!r} and "
        f"{last.mean():.0%} after {estimator.boundary_!r}. Freeze less, as "
        f"`freeze={backbone.n_stages_before(stage)}`, or leave it at 'auto'.",
        TransferWarning,
        stacklevel=7,
    )
