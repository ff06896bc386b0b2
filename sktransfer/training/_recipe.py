"""The settings of a training: groups of parameters, and all of them resolved."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, ClassVar

from torch import nn

from sktransfer.activations import POOLINGS
from sktransfer.training._early_stopping import EarlyStopping
from sktransfer.training._schedule import LR_SCHEDULES
from sktransfer.utils import Interval, ParameterGroup, StrOptions

_BATCH_SIZE = 32
_POSITIVE = Interval(Integral, 1, None, closed="left")
_NOT_NEGATIVE = Interval(Real, 0, None, closed="left")


class Pooling(ParameterGroup):
    """How activations are pooled to one feature vector per sample.

    Parameters
    ----------
    kind : {"auto", "avg", "max", "avgmax", "cls", "last", "flatten"}, default="auto"
        What is pooled over height and width, or over tokens. "auto" is what networks
        for texts were trained with, what other networks do before their classifier, and
        otherwise, and for images in :class:`PretrainedFeatureExtractor`, "avg".
        "avgmax" joins average and maximum; "cls" takes the class token, "last" the last
        token of a text; "flatten" does not pool.
    grid : int, default=1
        Each cell of a ``grid`` x ``grid`` grid is pooled on its own, which keeps
        positions. A sequence of tokens that is not a grid is divided lengthwise.

    See Also
    --------
    FineTunedClassifier : Takes it as `pooling`; the kind alone is its shorthand.

    Examples
    --------
    >>> from sktransfer import PretrainedFeatureExtractor, Pooling
    >>> extractor = PretrainedFeatureExtractor(pooling=Pooling("max", grid=2))
    >>> extractor.set_params(pooling__grid=3).pooling
    Pooling(grid=3, kind='max')
    """

    _parameter_constraints: ClassVar[dict] = {
        "kind": [StrOptions({"auto", *POOLINGS})],
        "grid": [_POSITIVE],
    }
    _shorthand = "kind"

    def __init__(self, kind: str = "auto", *, grid: int = 1):
        self.kind = kind
        self.grid = grid

    def in_short(self) -> str | tuple[str, int]:
        """Return the kind, with the grid if there is more than one cell."""
        return self.kind if self.grid == 1 else (self.kind, self.grid)


class LoRA(ParameterGroup):
    """Low-rank adapters that are trained instead of the weights of layers.

    They are merged into the weights after training. Requires ``pip install
    "sktransfer[lora]"``.

    Parameters
    ----------
    rank : int, default=8
        Rank of the adapters.
    alpha : float, default=16.0
        Scale of the adapters: their product is multiplied by ``alpha / rank``.

    See Also
    --------
    TrainingRecipe : Takes it as `adapter`; ``"lora"`` is its shorthand.

    References
    ----------
    E. J. Hu et al. (2021). LoRA: Low-Rank Adaptation of Large Language Models.
    https://arxiv.org/abs/2106.09685

    Examples
    --------
    >>> from sktransfer import FineTunedClassifier, LoRA, TrainingRecipe
    >>> model = FineTunedClassifier(training=TrainingRecipe(adapter=LoRA(rank=4)))
    """

    _parameter_constraints: ClassVar[dict] = {
        "rank": [_POSITIVE],
        "alpha": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, rank: int = 8, *, alpha: float = 16.0):
        self.rank = rank
        self.alpha = alpha

    @classmethod
    def of(cls, given: LoRA | str | None) -> LoRA | None:
        """Return the adapters for a value of `adapter`; None if it is None."""
        return None if given is None else super().of(given)


class TrainingRecipe(ParameterGroup):
    """How the stages above the boundary and the head are optimised.

    Parameters
    ----------
    backbone_lr_ratio : float or "auto", default="auto"
        Learning rate of the last stage relative to that of the head. "auto" is 0.2, or
        0.5 where the statistics of BatchNorm show that the samples differ much from
        those of the pretraining, as digits do, and photographs of 32 pixels.
    layer_decay : float, default=1.0
        Learning rate of each trained stage relative to that of the stage above it.
    lr_schedule : str or callable, default="auto"
        "cosine" and "constant" begin with a warm-up over a tenth of the steps;
        "one_cycle" rises to the peak in a quarter of the steps and falls again;
        "annealed" falls to a sixth, by the schedule of adversarial adaptation. "auto"
        is "annealed" for adversarial adaptation and "cosine" otherwise. A scheduler
        class of torch, or another callable from an optimiser to a scheduler, is stepped
        once per epoch.
    weight_decay : float, default=0.01
        Decoupled weight decay, which does not apply to norms and biases.
    l2_sp : float, default=0.0
        Strength of the penalty on the squared distance to the pretrained weights.
    max_grad_norm : float or None, default=1.0
        Gradients are clipped to this norm; None does not clip.
    accumulate_grad_batches : int, default=1
        Batches per training step.
    batch_norm : {"eval", "train"}, default="eval"
        Whether BatchNorm in the trained stages keeps its pretrained statistics or uses
        those of the batch. The former does better on few samples.
    ema : float or None, default=None
        Decay of an exponential moving average of the weights, such as 0.99. The
        averaged weights are used after training.
    unfreeze_every : int or None, default=None
        Gradual unfreezing: only the last stage is trained at first, and one more from
        the top every `unfreeze_every` epochs, until `freeze` is reached.
    head_init : {"probe", "random"}, default="probe"
        With "probe", a linear head starts from the linear probe (LP-FT), and a cosine
        head from the means of the classes; other heads have random weights.
    dropout : float, default=0.0
        Share of the features that are dropped before the head in training.
    label_smoothing : float, default=0.0
        Share of the cross-entropy's target that is spread evenly over all classes. It
        has no effect on a head that is solved, as with ``freeze="all"``.
    adapter : LoRA, "lora" or None, default=None
        Low-rank adapters that are trained instead of the weights above the boundary.

    See Also
    --------
    FineTunedClassifier : Takes it as `training`.

    References
    ----------
    A. Kumar et al. (2022). Fine-Tuning can Distort Pretrained Features and Underperform
    Out-of-Distribution. https://arxiv.org/abs/2202.10054

    Examples
    --------
    >>> from sktransfer import FineTunedClassifier, TrainingRecipe
    >>> model = FineTunedClassifier(training=TrainingRecipe(weight_decay=0.1))
    >>> model.set_params(training__ema=0.99).training
    TrainingRecipe(ema=0.99, weight_decay=0.1)
    """

    _parameter_constraints: ClassVar[dict] = {
        "backbone_lr_ratio": [StrOptions({"auto"}), _NOT_NEGATIVE],
        "layer_decay": [Interval(Real, 0, 1, closed="right")],
        "lr_schedule": [StrOptions({"auto", *LR_SCHEDULES}), callable],
        "weight_decay": [_NOT_NEGATIVE],
        "l2_sp": [_NOT_NEGATIVE],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
        "accumulate_grad_batches": [_POSITIVE],
        "batch_norm": [StrOptions({"eval", "train"})],
        "ema": [Interval(Real, 0, 1, closed="neither"), None],
        "unfreeze_every": [_POSITIVE, None],
        "head_init": [StrOptions({"probe", "random"})],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "adapter": [StrOptions({"lora"}), LoRA, None],
    }
    _groups: ClassVar[dict[str, type[ParameterGroup]]] = {"adapter": LoRA}

    def __init__(
        self,
        *,
        backbone_lr_ratio: float | str = "auto",
        layer_decay: float = 1.0,
        lr_schedule: str | Callable = "auto",
        weight_decay: float = 0.01,
        l2_sp: float = 0.0,
        max_grad_norm: float | None = 1.0,
        accumulate_grad_batches: int = 1,
        batch_norm: str = "eval",
        ema: float | None = None,
        unfreeze_every: int | None = None,
        head_init: str = "probe",
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        adapter: LoRA | str | None = None,
    ):
        self.backbone_lr_ratio = backbone_lr_ratio
        self.layer_decay = layer_decay
        self.lr_schedule = lr_schedule
        self.weight_decay = weight_decay
        self.l2_sp = l2_sp
        self.max_grad_norm = max_grad_norm
        self.accumulate_grad_batches = accumulate_grad_batches
        self.batch_norm = batch_norm
        self.ema = ema
        self.unfreeze_every = unfreeze_every
        self.head_init = head_init
        self.dropout = dropout
        self.label_smoothing = label_smoothing
        self.adapter = adapter


class Augmentation(ParameterGroup):
    """Random changes to the samples in training, and to those that are predicted.

    Parameters
    ----------
    views : str, callable or None, default="auto"
        Random views of the samples to train on. "auto" is the image or its mirror image
        where stages are trained for classes that the network recognises in the mirror,
        and else None. "crop" is a crop of 35% to 100% of the area, "crop_flip"
        also mirrors; "light", "medium" and "strong" change position and colour. A
        callable maps a PIL image to one, or to an array (h, w, 3) or tensor (3, h, w).
        "word_dropout" is for texts (:class:`~sktransfer.inputs.WordDropout`). The probe
        sees no views but `n_views`.
    n_views : int or None, default=None
        Number of fixed views per sample, whose activations are stored. By default texts
        have 4, and images new ones per epoch, through all stages. Not for "auto".
    activations : bool or collection of str, default=False
        Which of "flip", "shift", "crop" and "drop" are applied to stored activations in
        training, at almost no cost; True applies all.
    mixup, cutmix : float, default=0.0
        Parameter of the Beta distribution from which the share of each sample is drawn
        when activations at the boundary, or images if nothing is frozen, are mixed
        (mixup) or cut together (CutMix). With both, each batch uses one of them.
    tta : int or None, default=None
        Test-time augmentation: predictions are the mean score of the image and `tta`
        random views of it; with "auto", of the image and its mirror image.

    See Also
    --------
    FineTunedClassifier : Takes it as `augment`; the views alone are its shorthand.

    Examples
    --------
    >>> from sktransfer import Augmentation, FineTunedClassifier
    >>> model = FineTunedClassifier(augment=Augmentation("crop", n_views=4))
    """

    _parameter_constraints: ClassVar[dict] = {
        "views": [str, callable, None],
        "n_views": [_POSITIVE, None],
        "activations": ["boolean", list, tuple, set],
        "mixup": [_NOT_NEGATIVE],
        "cutmix": [_NOT_NEGATIVE],
        "tta": [_POSITIVE, None],
    }
    _shorthand = "views"

    @classmethod
    def of(cls, given: str | Callable | Augmentation | None) -> Augmentation:
        """Return the group for a value of `augment`; None draws no views."""
        return cls(None) if given is None else super().of(given)

    def __init__(
        self,
        views: str | Callable | None = "auto",
        *,
        n_views: int | None = None,
        activations: bool | Collection[str] = False,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        tta: int | None = None,
    ):
        self.views = views
        self.n_views = n_views
        self.activations = activations
        self.mixup = mixup
        self.cutmix = cutmix
        self.tta = tta


@dataclass(frozen=True)
class ResolvedRecipe:
    """All settings of a training, with "auto" and the shorthands of groups resolved.

    Fields are named as the parameters are; `early_stopping` only says whether it is on.
    """

    max_epochs: int
    lr: float
    batch_size: int
    head: str | nn.Module
    backbone_lr_ratio: Any
    layer_decay: float
    lr_schedule: str | Callable
    weight_decay: float
    l2_sp: float
    max_grad_norm: float | None
    accumulate_grad_batches: int
    batch_norm: str
    ema: float | None
    unfreeze_every: int | None
    head_init: str
    dropout: float
    adapter: LoRA | None
    pooling: Pooling
    views: str | Callable | None
    n_views: int | None
    activations: bool | Collection[str]
    mixup: float
    cutmix: float
    early_stopping: bool
    validation_fraction: float | str
    n_iter_no_change: int | str

    @classmethod
    def from_params(
        cls, params: Mapping, lr_schedule: str = "cosine"
    ) -> ResolvedRecipe:
        """Resolve ``get_params(deep=False)``, with `lr_schedule` in place of "auto"."""
        training = TrainingRecipe.of(params["training"])
        stopping = EarlyStopping.of(params["early_stopping"])
        augment = Augmentation.of(params["augment"])
        settings = dict(params)
        for group in [training, augment, stopping or EarlyStopping()]:
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
        return cls(**{f.name: settings[f.name] for f in fields(cls)})

    def to_dict(self) -> dict:
        """Return the settings by name, with groups as dicts."""
        groups = {"pooling": self.pooling.get_params()}
        if self.adapter is not None:
            groups["adapter"] = self.adapter.get_params()
        return {**vars(self), **groups}

    @property
    def starts_from_probe(self) -> bool:
        """Whether the head starts from the linear probe."""
        return self.head_init == "probe" and self.head == "linear"

    @property
    def mixes(self) -> bool:
        """Whether mixup or CutMix is on."""
        return self.mixup > 0 or self.cutmix > 0
