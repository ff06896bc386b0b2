"""When a training stops: the parameters, and the epochs to wait."""

from __future__ import annotations

from numbers import Integral, Real
from typing import ClassVar

import numpy as np

from sktransfer.utils import Interval, ParameterGroup, StrOptions

# Epochs to wait for better predictions, and steps of the optimiser.
_FEWEST_EPOCHS, _FEWEST_STEPS = 5, 100


class EarlyStopping(ParameterGroup):
    """Choose the number of epochs by samples that are held out.

    A trial stops when they are predicted no better. Then all samples are trained on,
    from the start, for as many epochs. With `X_val` there is one training, whose best
    weights are restored. What counts is the accuracy, and the loss for regression and
    among equal accuracies.

    Nothing is held out where both trainings would take more than `max_epochs` together,
    even if the first epoch were the best; `fit` warns of it. That no epoch is best is
    an answer that is not taken: the training then has the epochs of the trial.

    Parameters
    ----------
    validation_fraction : float or "auto", default="auto"
        Share of the samples that are held out, unless `fit` gets `X_val`. "auto" is a
        fifth of up to 250 samples, 50 of up to 500, and a tenth of more.
    n_iter_no_change : int or "auto", default="auto"
        Epochs to wait for better predictions. "auto" is five epochs, and at least 100
        steps of the optimiser.

    See Also
    --------
    FineTunedClassifier : Takes it as `early_stopping`; True is its shorthand.

    Examples
    --------
    >>> from sktransfer import EarlyStopping, FineTunedClassifier
    >>> model = FineTunedClassifier(early_stopping=EarlyStopping(n_iter_no_change=3))
    """

    _parameter_constraints: ClassVar[dict] = {
        "validation_fraction": [
            StrOptions({"auto"}),
            Interval(Real, 0, 1, closed="neither"),
        ],
        "n_iter_no_change": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
    }

    def __init__(
        self,
        validation_fraction: float | str = "auto",
        *,
        n_iter_no_change: int | str = "auto",
    ):
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change

    @classmethod
    def of(cls, given: bool | EarlyStopping) -> EarlyStopping | None:
        """Return the group for a value of `early_stopping`; None if it is False."""
        if isinstance(given, cls):
            return given
        return cls() if isinstance(given, bool | np.bool_) and given else None


def epochs_to_wait(n_iter_no_change: int | str, n_steps: int) -> int:
    """Return the number of epochs, of so many steps, to wait for better predictions."""
    if isinstance(n_iter_no_change, str):
        return max(_FEWEST_EPOCHS, -(-_FEWEST_STEPS // n_steps))
    return n_iter_no_change
