"""A regressor that trains the last stages of a pretrained network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from numbers import Real
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin
from torch import nn

from sktransfer._base import restore_on_error
from sktransfer._fine_tuned import FineTunedEstimator
from sktransfer.backbones import BackboneLike
from sktransfer.fitting import shares_docs
from sktransfer.model import RegressionOutputs
from sktransfer.training import (
    Augmentation,
    EarlyStopping,
    Pooling,
    Probe,
    Solution,
    TrainingRecipe,
    find_loss,
    fit_ridge,
    middle_alpha,
    pinball_loss,
    search_alpha,
)
from sktransfer.utils import Interval, StrOptions, types


@shares_docs
class FineTunedRegressor(MultiOutputMixin, RegressorMixin, FineTunedEstimator):
    """Regressor that fine-tunes the last stages of a pretrained network.

    It works as :class:`FineTunedClassifier` does, with one output per target. Targets
    are standardised for the training. The probe is a ridge regression on the features
    of the pretrained network. With ``freeze="all"`` and the squared error, it is all
    that is fitted.

    Parameters
    ----------
    {network}
    alpha : float or "auto", default="auto"
        Strength of the probe's L2 penalty, as in :class:`sklearn.linear_model.Ridge`;
        "auto" chooses it by leave-one-out cross-validation on the features.
    loss : {"squared_error", "absolute_error", "huber", "quantile"}, another \
registered name or callable, \
default="squared_error"
        "huber" is squared up to one standard deviation of the targets and absolute
        beyond; "quantile" is the pinball loss. A callable takes scores and standardised
        targets of shape (n, n_outputs), as tensors, and returns the losses of the
        samples, of shape (n,).
    quantile : float, default=0.5
        The quantile that ``loss="quantile"`` estimates, in (0, 1).
    {training}

    Attributes
    ----------
    alpha_ : float
        Value of `alpha` that the probe was fitted with, if there was one.
    {attributes}

    See Also
    --------
    FineTunedClassifier : Classifier with the same parameters.
    PretrainedFeatureExtractor : Transformer, for any other estimator.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import FineTunedRegressor
    >>> X, y = load_digits(return_X_y=True)
    >>> model = FineTunedRegressor(
    ...     freeze="all", image_shape=(8, 8), value_range=(0, 16), image_size=64
    ... )
    >>> model.fit(X[:200], y[:200]).score(X[200:400], y[200:400]) > 0.5
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        **FineTunedEstimator._parameter_constraints,
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "loss": [str, callable],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    _strength = "alpha_"

    def __init__(
        self,
        backbone: BackboneLike = "efficientnet_lite0",
        *,
        weights: types.Weights = "default",
        freeze: float | str = "auto",
        head: str | nn.Module = "linear",
        pooling: str | Pooling = "auto",
        alpha: float | str = "auto",
        loss: str | Callable = "squared_error",
        quantile: float = 0.5,
        max_epochs: int | str = "auto",
        lr: float = 5e-4,
        batch_size: int | str = "auto",
        augment: str | Callable | Augmentation | None = "auto",
        early_stopping: bool | EarlyStopping = False,
        training: TrainingRecipe | None = None,
        image_size: types.ImageSize | None = None,
        image_shape: Sequence[int] | None = None,
        value_range: types.ValueRange = "auto",
        device: types.Device = "auto",
        memory: types.Memory | None = None,
        checkpoint: str | Path | None = None,
        warm_start: bool = False,
        callbacks: Sequence | None = None,
        random_state: types.RandomState | None = None,
        verbose: int = 0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.freeze = freeze
        self.head = head
        self.pooling = pooling
        self.alpha = alpha
        self.loss = loss
        self.quantile = quantile
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.augment = augment
        self.early_stopping = early_stopping
        self.training = training
        self.image_size = image_size
        self.image_shape = image_shape
        self.value_range = value_range
        self.device = device
        self.memory = memory
        self.checkpoint = checkpoint
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose

    @restore_on_error
    def partial_fit(
        self,
        X: types.Samples,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on some samples.

        The first call determines the network, as ``freeze="auto"`` depends on its
        number of samples, and the mean and standard deviation by which targets are
        standardised. So its samples should be like the later ones. No samples are held
        out for early stopping.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.

        Returns
        -------
        self : FineTunedRegressor

        Raises
        ------
        ValueError
            If the number of targets or the parameters that determine the network differ
            from those of the first call.
        """
        self._validate_params()
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: types.Samples) -> NDArray[np.float64]:
        """Predict the targets.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs), float64
            One value per sample, or per sample and target, as y in `fit`.
        """
        scores = self._scores(X)
        return self.model_.outputs.to_units(scores)

    def score(
        self,
        X: types.Samples,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Compute the coefficient of determination, R².

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.

        Returns
        -------
        float
        """
        return super().score(X, self._labels(X, y), sample_weight)

    def _learn_outputs(self, y, classes):
        return RegressionOutputs.learn(y)

    def _weigh(self, y, sample_weight, outputs):
        return sample_weight

    def _loss(self, label_weight):
        smoothing = TrainingRecipe.of(self.training).label_smoothing
        if smoothing:
            raise ValueError(
                "`training__label_smoothing` must be 0 for a regressor. Got "
                f"{smoothing!r}."
            )
        if self.loss == "quantile":
            return partial(pinball_loss, quantile=self.quantile)
        return find_loss(self.loss, "regression")

    def _probe(self, outputs, label_weight):
        return Probe(
            solve=partial(_solve, self.alpha),
            penalty=float,
            loss=self._loss(label_weight),
            kind=outputs.kind,
            is_final=self.head == "linear" and self.loss == "squared_error",
        )


def _solve(alpha, features, y, sample_weight, groups, is_partial):
    """Solve ridge regression (Solution)."""
    weighted = {"sample_weight": sample_weight}
    if alpha == "auto":
        alpha = search_alpha(features, y, groups=groups, **weighted)
        if is_partial:  # few samples may suggest too strong a penalty
            alpha = min(alpha, middle_alpha(features.numpy(), sample_weight))
    head, alpha, loss = fit_ridge(features, y, alpha=alpha, **weighted)
    return Solution(head, alpha, {"train_loss": loss})
