"""The learning-rate range test: which rate to train at."""

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["LearningRateCurve", "find_lr"]

_MEMORY = 0.98  # of the moving average, as in fastai
_UNSETTLED = 10  # the average is noise in the first tenth, which fastai discards, too
_AS_LOW = 0.2  # of the lowest loss
_MARGIN = 10  # to the rate at which the loss is about to rise


@dataclass(frozen=True, eq=False)
class LearningRateCurve:
    """The loss while the learning rate rose.

    Attributes
    ----------
    lr : ndarray of shape (n_steps,)
        Learning rates, rising.
    loss : ndarray of shape (n_steps,)
        Moving average of the loss, finite.
    suggestion : float
        A rate to train at.
    """

    lr: np.ndarray
    loss: np.ndarray
    suggestion: float


def find_lr(step, *, start=1e-7, stop=10.0, n_steps=100, factor=4.0):
    """Train for a moment at rising learning rates, and read a rate off the losses.

    A tenth of the highest rate at which the loss is still about as low as it gets is
    suggested. A tenth of the rate of the lowest loss is the usual choice ("minimum" in
    fastai). But fine-tuning may begin near a minimum, and then which of many low losses
    is the lowest is chance; so all within a fifth of it count.

    Parameters
    ----------
    step : callable
        From a learning rate to the loss (float) of a step of training at it. It
        changes the network; to put it back is up to the caller.
    start, stop : float, default=1e-7 and 10
        Lowest and highest learning rate.
    n_steps : int, default=100
        How many rates there are, in geometric progression.
    factor : float, default=4
        The test ends early when the average loss is so many times its lowest, or is
        not finite.

    Returns
    -------
    LearningRateCurve
        Up to where the test ended.

    Raises
    ------
    ValueError
        If an argument is out of range or the first loss is not finite.

    References
    ----------
    L. N. Smith (2015). Cyclical Learning Rates for Training Neural Networks.
    https://arxiv.org/abs/1506.01186

    https://docs.fast.ai/callback.schedule.html#learner.lr_find

    Examples
    --------
    >>> from sktransfer.training._lr_finder import find_lr
    >>> x = [1.0]
    >>> def step(lr):  # of gradient descent on x ** 2 / 2
    ...     loss = x[0] ** 2 / 2
    ...     x[0] -= lr * x[0]
    ...     return loss
    >>> 0.01 < find_lr(step).suggestion < 2  # it diverges beyond 2
    True
    """
    _check(start, stop, n_steps, factor)
    rates = np.geomspace(start, stop, n_steps)
    losses = _record(step, rates.tolist(), factor)
    rates = rates[: len(losses)]
    return LearningRateCurve(rates, losses, _suggest(rates, losses))


def _check(start, stop, n_steps, factor):
    if not 0 < start < stop < math.inf:
        raise ValueError(
            "`start` and `stop` must be learning rates with 0 < start < stop. Got "
            f"start={start!r} and stop={stop!r}."
        )
    if n_steps < 2:
        raise ValueError(f"`n_steps` must be 2 or more. Got {n_steps!r}.")
    if not factor > 1:
        raise ValueError(f"`factor` must be above 1. Got {factor!r}.")


def _record(step, rates, factor):
    """Return the moving average of the loss, up to where it diverges."""
    average, lowest, smooth = 0.0, math.inf, []
    for i, rate in enumerate(rates, start=1):
        loss = float(step(rate))
        average = _MEMORY * average + (1 - _MEMORY) * loss
        if not math.isfinite(average):
            break
        smooth.append(average / (1 - _MEMORY**i))  # without the bias to zero
        if i <= len(rates) // _UNSETTLED:
            continue
        lowest = min(lowest, smooth[-1])
        if smooth[-1] > _above(lowest, factor - 1):
            break
    if not smooth:
        raise ValueError(
            f"The loss must be finite at the lowest learning rate, start={rates[0]}. "
            f"Got {loss} at the first step: look for NaN and infinity in the samples, "
            "the targets and the weights of the network."
        )
    return np.array(smooth)


def _above(loss, share):
    return loss + share * abs(loss)  # a loss may be negative


def _suggest(rates, losses):
    lowest = losses[len(losses) // _UNSETTLED :].min()
    low = np.flatnonzero(losses <= _above(lowest, _AS_LOW))
    return float(max(rates[0], rates[low[-1]] / _MARGIN))
