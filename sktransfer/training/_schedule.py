"""Learning rates per group of parameters, and schedules."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from skorch.callbacks import LRScheduler
from torch import nn
from torch.optim import lr_scheduler as schedulers

from sktransfer.utils import near_matches

LR_SCHEDULES = ("cosine", "one_cycle", "constant", "annealed")
_RULE = (
    f"`lr_schedule` must be one of {list(LR_SCHEDULES)} or a callable from an "
    "optimiser to a scheduler of torch, such as "
    "functools.partial(torch.optim.lr_scheduler.StepLR, step_size=3)."
)
# Embeddings and scales without weight decay, as in `no_weight_decay()` of timm's
# networks, and their names in torchvision, where layer scales have shape (c, 1, 1).
_NOT_DECAYED = frozenset(
    "absolute_pos_embed class_token cls_token dist_token distillation_token "
    "layer_scale logit_scale mask_token pos_embed pos_embedding position_embedding "
    "position_embeddings reg_token register_tokens relative_position_bias_table".split()
)
_OBJECTIVE_LR_RATIO = 5  # times the rate of the head
# Adam's second moments average over about 1,000 steps, and are noisy in the first few.
_MIN_WARMUP = 10


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    backbone_lr_ratio: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    stages_above: Mapping[str, int] | None = None,
) -> list[dict]:
    """Group the trainable parameters by learning rate and weight decay.

    Parameters of the head, whose names start with ``head.``, have the rate `lr`; those
    of a stage have the rate ``lr * backbone_lr_ratio * layer_decay ** stages_above``
    (Howard and Ruder, 2018, https://arxiv.org/abs/1801.06146; Bao et al., 2022,
    https://arxiv.org/abs/2106.08254). Parameters of objectives, ``objective.``, have
    five times the rate of the head, which is ten times that of the last stage if
    `backbone_lr_ratio` is 0.5 (Ganin et al., 2016, https://arxiv.org/abs/1505.07818;
    Long et al., 2018, https://arxiv.org/abs/1705.10667).

    Weight matrices and kernels have weight decay. Norms and biases have none (He et
    al., 2019, https://arxiv.org/abs/1812.01187), and neither have position embeddings
    and class tokens, as in timm's ``param_groups_weight_decay``.
    """
    stages_above = stages_above or {}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        rate = lr
        if name.startswith("objective."):
            rate *= _OBJECTIVE_LR_RATIO
        elif not name.startswith("head."):
            rate *= backbone_lr_ratio * layer_decay ** stages_above.get(name, 0)
        is_decayed = parameter.ndim > 1 and name.split(".")[-1] not in _NOT_DECAYED
        decay = weight_decay if is_decayed else 0.0
        # NumPy's floats, which grid searches pass, do not load with `weights_only`.
        groups.setdefault((float(rate), float(decay)), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def warmup_cosine(step: int, *, n_steps: int) -> float:
    """Return the factor of a linear warm-up followed by half a cosine."""
    n_warmup = _n_warmup(n_steps)
    if step < n_warmup:
        return (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def warmup_constant(step: int, *, n_steps: int) -> float:
    """Return the factor of a linear warm-up to one."""
    return min(1.0, (step + 1) / _n_warmup(n_steps))


def annealed(step: int, *, n_steps: int) -> float:
    """Return the factor ``(1 + 10 p) ** -0.75`` after a share p of the steps.

    This is the schedule of adversarial domain adaptation (Ganin et al., 2016,
    https://arxiv.org/abs/1505.07818). The paper has an initial rate of 0.01, for SGD.
    """
    return (1 + 10 * step / n_steps) ** -0.75


def _n_warmup(n_steps):
    return max(1, round(0.1 * n_steps), min(_MIN_WARMUP, n_steps // 2))


class _OneCycle(schedulers.OneCycleLR):
    """One-cycle schedule that remains at its end, where torch's raises an error."""

    def step(self, epoch=None):
        if self.last_epoch < self.total_steps - 1:
            super().step(epoch)


def _one_cycle(optimizer, n_steps, share=0.25):
    """Make the schedule of fastai's ``fit_one_cycle``, with the rates as peaks.

    torch's peak is at step ``pct_start * total_steps - 1`` and its end at step
    ``total_steps - 1``. fastai has the peak at a quarter of the steps and the end one
    step past the last, which also avoids phases of length zero, as torch would have
    with four steps.
    """
    return _OneCycle(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=n_steps + 1,
        pct_start=(share * n_steps + 1) / (n_steps + 1),
        cycle_momentum=not optimizer.defaults.keys().isdisjoint({"betas", "momentum"}),
        base_momentum=0.85,
        max_momentum=0.95,
        div_factor=25.0,
        final_div_factor=1e5 / 25,  # relative to the peak in fastai, the start in torch
    )


_FACTORS = {"cosine": warmup_cosine, "constant": warmup_constant, "annealed": annealed}


def schedule_callback(lr_schedule: str | Callable, n_steps: int) -> ResumableSchedule:
    """Return the callback that schedules the learning rates.

    - ``"cosine"``: a linear warm-up over a tenth of the `n_steps` of the training (at
      least ten, or half of a short run), then half a cosine down to zero [1]_;
    - ``"one_cycle"``: half a cosine up from a 25th in a quarter of the steps, then
      half a cosine down to 1e-5, with the momentum (Adam's first beta) going from 0.95
      to 0.85 and back, as in fastai [2]_ [3]_;
    - ``"constant"``: the warm-up, then constant rates;
    - ``"annealed"``: from the start down to a sixth, see :func:`annealed`;
    - callable: maps an optimiser to a scheduler of torch, which is stepped at the end
      of each epoch; ``ReduceLROnPlateau`` monitors the validation loss if there is one,
      and the training loss otherwise.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter (2017). SGDR: Stochastic Gradient Descent with
       Warm Restarts. https://arxiv.org/abs/1608.03983
    .. [2] L. N. Smith and N. Topin (2017). Super-Convergence.
       https://arxiv.org/abs/1708.07120
    .. [3] https://docs.fast.ai/callback.schedule.html#learner.fit_one_cycle
    """
    if isinstance(lr_schedule, str):
        return ResumableSchedule(_by_name(lr_schedule, n_steps), step_every="batch")
    if not callable(lr_schedule):
        raise TypeError(f"{_RULE} Got {lr_schedule!r}.")
    return ResumableSchedule(lr_schedule, monitor=_monitored_loss)


def _by_name(name, n_steps):
    """Return a function that maps an optimiser to the scheduler of this name."""
    if name not in LR_SCHEDULES:
        near = near_matches(name, LR_SCHEDULES)
        raise ValueError(f"{_RULE} Got {name!r}.{near}")
    if name == "one_cycle":
        return partial(_one_cycle, n_steps=n_steps)
    factor = _FACTORS[name]
    return partial(schedulers.LambdaLR, lr_lambda=partial(factor, n_steps=n_steps))


def _monitored_loss(net):
    epoch = net.history[-1]
    return epoch.get("valid_loss", epoch["train_loss"])


class ResumableSchedule(LRScheduler):
    """skorch's scheduler callback, for a training that can be resumed.

    skorch makes a new scheduler whenever training begins. If a training is resumed, it
    would start from a wrong step if it is stepped by batches, and would apply its
    initial factor once more if it multiplies the current rates. A callback that saves
    the state at the end of an epoch has to come after this one.
    """

    lr_scheduler_ = None
    resume_from_ = None

    def initialize(self):
        """Discard the scheduler and its state."""
        self.resume_from_ = None
        return super().initialize()

    def on_train_begin(self, net, **kwargs):
        """Make the scheduler, unless there is one for this optimiser already."""
        state = self.state_dict()
        made = self.lr_scheduler_
        if self.resume_from_ or made is None or made.optimizer is not net.optimizer_:
            self.lr_scheduler_ = _make(self.policy, net.optimizer_)
            if state:
                _restore(self.lr_scheduler_, state)
            self.resume_from_ = None

    def on_batch_end(self, net, training, **kwargs):
        """Step the scheduler if the batch completed a step of the optimiser."""
        if getattr(net, "has_stepped", True):
            super().on_batch_end(net, training, **kwargs)

    def state_dict(self) -> dict:
        """Return the state of the scheduler and of the optimiser's groups.

        The groups are needed by schedulers that read their current rates. The state is
        empty before training.
        """
        if self.resume_from_ is not None:
            return self.resume_from_
        if self.lr_scheduler_ is None:
            return {}
        groups = self.lr_scheduler_.optimizer.param_groups
        state = {
            "scheduler": self.lr_scheduler_.state_dict(),
            "groups": [{k: v for k, v in g.items() if k != "params"} for g in groups],
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict) -> None:
        """Resume from a state when training begins.

        It must be called after ``net.initialize()``, which discards the state, and
        before or after the state of the optimiser is loaded.
        """
        self.resume_from_ = state or None


def _make(policy, optimizer):
    """Call the user's function, and check that it returns a scheduler."""
    try:
        scheduler = policy(optimizer)
    except TypeError as error:
        raise TypeError(f"{_RULE} Calling {policy!r} failed: {error}.") from error
    if not isinstance(scheduler, schedulers.LRScheduler):
        returned = type(scheduler).__name__
        raise TypeError(f"{_RULE} {policy!r} returned an object of type {returned}.")
    return scheduler


def _restore(scheduler, state):
    """Load the scheduler's state and then the groups, whose rates it has changed."""
    groups = scheduler.optimizer.param_groups
    if len(groups) != len(state["groups"]):
        raise ValueError(
            f"The state of the schedule has {len(state['groups'])} parameter groups, "
            f"but the optimiser has {len(groups)}. Load it into a net whose stages, "
            "rates and weight decay are those of the net it was saved from."
        )
    scheduler.load_state_dict(state["scheduler"])
    for group, kept in zip(groups, state["groups"], strict=True):
        group.update(kept)
