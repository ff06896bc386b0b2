"""A regressor that trains the last stages of a pretrained network."""

import warnings
from numbers import Real

import numpy as np
import torch
from sklearn.base import MultiOutputMixin, RegressorMixin

from sktransfer._base import undone_on_error
from sktransfer._docs import shares_docs
from sktransfer._fine_tuned import FineTunedEstimator
from sktransfer.export import UnitsOfY
from sktransfer.training import (
    LOSSES,
    RegressionLoss,
    fit_ridge,
    middle_alpha,
    search_alpha,
)
from sktransfer.utils import Interval, StrOptions, check_array

__all__ = ["FineTunedRegressor"]


@shares_docs
class FineTunedRegressor(MultiOutputMixin, RegressorMixin, FineTunedEstimator):
    """Predict numbers with a pretrained network of which the last stages are trained.

    As :class:`FineTunedClassifier`, with one output for each target. Targets are
    standardised inside. With ``freeze="all"`` and the squared error only a ridge
    regression is left, which is solved as such.

    Parameters
    ----------
    {parameters}
    loss : {"squared_error", "absolute_error", "huber", "quantile"}, \
default="squared_error"
        "huber" is squared up to one standard deviation of the targets and absolute
        beyond; "quantile" is the pinball loss.
    quantile : float, default=0.5
        What "quantile" estimates, in (0, 1).
    alpha : float or "auto", default="auto"
        Strength of the L2 penalty of the ridge regression that the head starts from,
        as in :class:`sklearn.linear_model.Ridge`; "auto" chooses it by
        leave-one-out cross-validation on the features.
    {settings}
    {augmentation}

    Attributes
    ----------
    alpha_ : float
        The strength that the ridge regression had, if there was one.
    {attributes}

    See Also
    --------
    FineTunedClassifier : The same for classes.
    PretrainedFeatureExtractor : Features for any other estimator.

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

    _parameter_constraints = {
        **FineTunedEstimator._parameter_constraints,
        "loss": [StrOptions({*LOSSES})],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
        "alpha": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        backbone="efficientnet_lite0",
        *,
        weights="default",
        freeze="auto",
        unfreeze_every=None,
        adapter=None,
        adapter_rank=8,
        adapter_alpha=16.0,
        pooling="auto",
        pool_size=1,
        head="linear",
        head_init="probe",
        dropout=0.0,
        loss="squared_error",
        quantile=0.5,
        alpha="auto",
        image_size=None,
        image_shape=None,
        value_range="auto",
        max_epochs=10,
        lr=1e-3,
        backbone_lr_ratio=0.5,
        layer_decay=1.0,
        lr_schedule="cosine",
        weight_decay=0.01,
        l2_sp=0.0,
        max_grad_norm=1.0,
        accumulate_grad_batches=1,
        batch_norm="eval",
        ema=None,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        augment=None,
        n_views=None,
        augment_activations=False,
        mixup=0.0,
        cutmix=0.0,
        tta=None,
        batch_size="auto",
        device="auto",
        callbacks=None,
        memory=None,
        checkpoint=None,
        warm_start=False,
        precision="auto",
        random_state=None,
        verbose=0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.freeze = freeze
        self.unfreeze_every = unfreeze_every
        self.adapter = adapter
        self.adapter_rank = adapter_rank
        self.adapter_alpha = adapter_alpha
        self.pooling = pooling
        self.pool_size = pool_size
        self.head = head
        self.head_init = head_init
        self.dropout = dropout
        self.loss = loss
        self.quantile = quantile
        self.alpha = alpha
        self.image_size = image_size
        self.image_shape = image_shape
        self.value_range = value_range
        self.max_epochs = max_epochs
        self.lr = lr
        self.backbone_lr_ratio = backbone_lr_ratio
        self.layer_decay = layer_decay
        self.lr_schedule = lr_schedule
        self.weight_decay = weight_decay
        self.l2_sp = l2_sp
        self.max_grad_norm = max_grad_norm
        self.accumulate_grad_batches = accumulate_grad_batches
        self.batch_norm = batch_norm
        self.ema = ema
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.augment = augment
        self.n_views = n_views
        self.augment_activations = augment_activations
        self.mixup = mixup
        self.cutmix = cutmix
        self.tta = tta
        self.batch_size = batch_size
        self.device = device
        self.callbacks = callbacks
        self.memory = memory
        self.checkpoint = checkpoint
        self.warm_start = warm_start
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    @undone_on_error
    def partial_fit(self, X, y=None, sample_weight=None):
        """Train for one epoch on some samples.

        The first call settles the network, as ``freeze="auto"`` looks at its number of
        samples, and the units, by mean and standard deviation of its targets. So it
        wants a batch like those to come. Nothing is held out for early stopping.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.

        Returns
        -------
        self : FineTunedRegressor
        """
        self._validate_params()
        if not hasattr(self, "net_"):
            self._fit_part(X, y, sample_weight)
            self._warn_of_units()
            return self
        return self._go_on(X, y, sample_weight)

    def predict(self, X):
        """Predict the targets.

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs), float64
            As y was.
        """
        predicted = self._scores(X) * self._scale + self._mean
        return predicted[:, 0] if self._is_1d else predicted

    def score(self, X, y=None, sample_weight=None):
        """Compute the coefficient of determination, R².

        Parameters
        ----------
        X : array-like of n_samples
            As in :meth:`fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets. May be left out if X is a Dataset with labels.
        sample_weight : array-like of shape (n_samples,), default=None
            By default all samples weigh the same.

        Returns
        -------
        float
        """
        return super().score(X, self._labels(X, y), sample_weight)

    def _encode(self, y):
        """Return the targets, float64 of shape (n_samples, n_outputs)."""
        y = check_array(
            y, dtype=np.float64, ensure_2d=False, input_name="y", ensure_min_samples=1
        )
        self._is_1d = y.ndim == 1
        self._n_outputs = 1 if self._is_1d else y.shape[1]
        return self._encode_again(y)

    def _encode_again(self, y):
        y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
        n_outputs = 1 if y.ndim == 1 else y.shape[1]
        if n_outputs != self._n_outputs:
            raise ValueError(
                f"`y` must have {self._n_outputs} target(s), as in the first `fit`. "
                f"Got {n_outputs}."
            )
        return np.ascontiguousarray(y.reshape(len(y), -1))

    def _prepare(self, y, sample_weight):
        """Learn mean and scale of the targets."""
        if not len(y):
            raise ValueError("All samples have weight zero: there is nothing to fit.")
        self._mean = np.average(y, axis=0, weights=sample_weight)
        variance = np.average((y - self._mean) ** 2, axis=0, weights=sample_weight)
        self._is_constant = not variance.any()
        self._scale = np.where(variance > 0, np.sqrt(variance), 1.0)

    def _warn_of_units(self):
        """Say where later targets could not be told apart by those of a first call."""
        if self._is_constant:
            warnings.warn(
                "All targets of the first call of `partial_fit` are equal, so the unit "
                "of later ones stays 1. Begin with samples whose targets differ.",
                UserWarning,
                stacklevel=4,
            )

    def _to_tensor(self, y):
        return torch.from_numpy((y - self._mean) / self._scale).float()

    def _quality(self, scores, y):
        """Return the share of the loss of the best constants that is gone (float)."""
        loss, n = self._loss(), len(y)
        least = torch.zeros(())
        for column in y.T:  # the mean or one of the targets is the best constant
            constants = torch.cat([column.mean()[None], column])
            pairs = (
                constants.repeat_interleave(n)[:, None],
                column.repeat(n + 1)[:, None],
            )
            least = least + loss(*pairs).reshape(n + 1, n).mean(dim=1).min()
        least = least / y.shape[1]
        return float(1 - loss(scores, y).mean() / least) if least > 0 else 0.0

    def _say(self, quality):
        return f"{quality:.2f} of the loss explained"

    def _loss(self):
        return RegressionLoss(self.loss, self.quantile)

    def _nonlinearity(self):
        return torch.nn.Identity()

    def _last_step(self):
        """Return what turns scores into predictions, as a module, and their name."""
        return UnitsOfY(self._scale, self._mean, self._is_1d), "predictions"

    def _has_solution(self):
        return super()._has_solution() and self.loss == "squared_error"

    def _kind(self):
        return "regression"

    def _penalty(self):
        """Return what half the sum of the squared weights is multiplied by."""
        return self.alpha_

    def _solve_head(self, features, y, sample_weight, groups, is_part):
        """Fit ridge regression (linear layer and row of the history)."""
        alpha, weighted = self.alpha, {"sample_weight": sample_weight}
        if alpha == "auto":
            alpha = search_alpha(features, y, groups=groups, **weighted)
            if is_part:  # a few samples must not settle on next to no regression
                alpha = min(alpha, middle_alpha(features.numpy(), sample_weight))
        head, self.alpha_, loss = fit_ridge(features, y, alpha=alpha, **weighted)
        return head, {"train_loss": loss}
