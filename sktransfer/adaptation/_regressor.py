"""A regressor for a target domain, from numbers of a source domain."""

from sktransfer import FineTunedRegressor
from sktransfer._docs import shares_adapted_docs
from sktransfer.adaptation._adapted import DomainAdaptedEstimator
from sktransfer.adaptation._domains import masked_numbers
from sktransfer.adaptation._methods import REGRESSOR_METHODS
from sktransfer.utils import StrOptions

__all__ = ["DomainAdaptedRegressor"]


@shares_adapted_docs
class DomainAdaptedRegressor(DomainAdaptedEstimator, FineTunedRegressor):
    """Predict numbers for a target domain, with those of a source domain alone.

    A :class:`~sktransfer.FineTunedRegressor` that gets samples of both domains in one
    `fit`. Frozen stages are computed once for either.

    Parameters
    ----------
    {parameters}
    method : {"none", "adabn", "coral", "mmd", "dann"}, default="mmd"
        As in :class:`DomainAdaptedClassifier`. All but "none" need stages to train.
    adaptation_weight : float, default=1.0
        What the method minimises counts so much beside the loss of the source.
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
    DomainAdaptedClassifier : The same for classes.
    sktransfer.FineTunedRegressor : Where target samples have labels.

    Notes
    -----
    Masked targets are NaN; of several outputs, rows that are NaN throughout.
    """

    _parameter_constraints = {
        **FineTunedRegressor._parameter_constraints,
        **DomainAdaptedEstimator._own_constraints,
        "method": [StrOptions({*REGRESSOR_METHODS})],
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
        method="mmd",
        adaptation_weight=1.0,
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
        lr_schedule="auto",
        weight_decay=0.01,
        l2_sp=0.0,
        max_grad_norm=1.0,
        accumulate_grad_batches=1,
        batch_norm="eval",
        ema=None,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        augment="auto",
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
        super().__init__(
            backbone,
            weights=weights,
            freeze=freeze,
            unfreeze_every=unfreeze_every,
            adapter=adapter,
            adapter_rank=adapter_rank,
            adapter_alpha=adapter_alpha,
            pooling=pooling,
            pool_size=pool_size,
            head=head,
            head_init=head_init,
            dropout=dropout,
            loss=loss,
            quantile=quantile,
            alpha=alpha,
            image_size=image_size,
            image_shape=image_shape,
            value_range=value_range,
            max_epochs=max_epochs,
            lr=lr,
            backbone_lr_ratio=backbone_lr_ratio,
            layer_decay=layer_decay,
            lr_schedule=lr_schedule,
            weight_decay=weight_decay,
            l2_sp=l2_sp,
            max_grad_norm=max_grad_norm,
            accumulate_grad_batches=accumulate_grad_batches,
            batch_norm=batch_norm,
            ema=ema,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            augment=augment,
            n_views=n_views,
            augment_activations=augment_activations,
            mixup=mixup,
            cutmix=cutmix,
            tta=tta,
            batch_size=batch_size,
            device=device,
            callbacks=callbacks,
            memory=memory,
            checkpoint=checkpoint,
            warm_start=warm_start,
            precision=precision,
            random_state=random_state,
            verbose=verbose,
        )
        self.method = method
        self.adaptation_weight = adaptation_weight

    def _find_masked(self, y, classes=None):
        return masked_numbers(y)
