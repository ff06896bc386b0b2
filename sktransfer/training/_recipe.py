"""All settings of a training, resolved, in one object."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping

from torch import nn

from sktransfer.training._groups import (
    Augmentation,
    EarlyStopping,
    LoRA,
    Pooling,
    TrainingRecipe,
)

__all__ = ["Recipe"]

_BATCH_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All settings of a training, resolved, named as the parameters are.

    Attributes
    ----------
    max_epochs, lr, batch_size, head
        As in :class:`~sktransfer.FineTunedClassifier`.
    backbone_lr_ratio, layer_decay, lr_schedule, weight_decay, l2_sp, max_grad_norm, \
accumulate_grad_batches, batch_norm, ema, unfreeze_every, head_init, dropout
        As in :class:`TrainingRecipe`.
    adapter : LoRA or None
    pooling : Pooling
    views, n_views, activations, mixup, cutmix
        As in :class:`Augmentation`.
    early_stopping : bool
    validation_fraction, n_iter_no_change
        As in :class:`EarlyStopping`.
    """

    max_epochs: int = 10
    lr: float = 1e-3
    batch_size: int = _BATCH_SIZE
    head: str | nn.Module = "linear"
    backbone_lr_ratio: float = 0.5
    layer_decay: float = 1.0
    lr_schedule: str | Callable = "cosine"
    weight_decay: float = 0.01
    l2_sp: float = 0.0
    max_grad_norm: float | None = 1.0
    accumulate_grad_batches: int = 1
    batch_norm: str = "eval"
    ema: float | None = None
    unfreeze_every: int | None = None
    head_init: str = "probe"
    dropout: float = 0.0
    adapter: LoRA | None = None
    pooling: Pooling = dataclasses.field(default_factory=Pooling)
    views: str | Callable | None = None
    n_views: int | None = None
    activations: bool | Collection[str] = False
    mixup: float = 0.0
    cutmix: float = 0.0
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 5

    @classmethod
    def from_params(cls, params: Mapping, lr_schedule: str = "cosine") -> Recipe:
        """Resolve the parameters of an estimator.

        Parameters
        ----------
        params : dict
            From ``get_params(deep=False)``.
        lr_schedule : str, default="cosine"
            What "auto" stands for.
        """
        training = TrainingRecipe.of(params["training"])
        stopping = EarlyStopping.of(params["early_stopping"])
        augment = Augmentation.of(params["augment"])
        groups = [training, augment, *filter(None, [stopping])]
        settings = dict(params)
        for group in groups:
            settings |= group.get_params(deep=False)
        settings |= {
            "adapter": LoRA.of(training.adapter),
            "pooling": Pooling.of(params["pooling"]),
            "early_stopping": stopping is not None,
        }
        if params["batch_size"] == "auto":
            settings["batch_size"] = _BATCH_SIZE
        if training.lr_schedule == "auto":
            settings["lr_schedule"] = lr_schedule
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: settings[name] for name in names if name in settings})

    def to_dict(self) -> dict:
        """Return the settings by name, and those of groups as dicts."""
        groups = {"pooling": self.pooling.get_params()}
        if self.adapter is not None:
            groups["adapter"] = self.adapter.get_params()
        return {**vars(self), **groups}

    @property
    def starts_from_probe(self) -> bool:
        """Whether the head starts from the solution of the convex problem."""
        return self.head_init == "probe" and self.head == "linear"

    @property
    def mixes(self) -> bool:
        """Whether samples are mixed with others."""
        return self.mixup > 0 or self.cutmix > 0
