"""How a suffix and a head are trained, in one object."""

from dataclasses import dataclass

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """Settings of a training, named as the parameters of the estimators.

    Attributes
    ----------
    max_epochs : int
    lr : float
        Highest learning rate of the head.
    backbone_lr_ratio, layer_decay, weight_decay : float
        See :func:`parameter_groups`.
    lr_schedule : str or callable
        See :func:`schedule_callback`.
    l2_sp : float
        Strength of the penalty towards the weights at the start.
    max_grad_norm : float or None
        Gradients are clipped to this norm.
    accumulate_grad_batches : int
        Batches that make a step.
    batch_size : int
    mixup, cutmix : float
        See :class:`Mix`.
    ema : float or None
        Decay of the moving average of the weights.
    early_stopping : bool
        Whether to stop when the loss on validation samples no longer falls.
    n_iter_no_change : int
        Epochs to wait for a lower loss.
    """

    max_epochs: int = 10
    lr: float = 1e-3
    backbone_lr_ratio: float = 0.5
    layer_decay: float = 1.0
    lr_schedule: object = "cosine"
    weight_decay: float = 0.01
    l2_sp: float = 0.0
    max_grad_norm: float | None = 1.0
    accumulate_grad_batches: int = 1
    batch_size: int = 32
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float | None = None
    early_stopping: bool = False
    n_iter_no_change: int = 5
