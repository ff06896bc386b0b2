"""Schedules: how the learning rate changes in the course of training."""

import copy
import math
from functools import partial

from skorch.callbacks import LRScheduler
from torch.optim import lr_scheduler as schedulers

from sktransfer.utils import near_matches

__all__ = [
    "LR_SCHEDULES",
    "ResumableSchedule",
    "annealed",
    "schedule_callback",
    "warmup_constant",
    "warmup_cosine",
]

LR_SCHEDULES = ("cosine", "one_cycle", "constant", "annealed")
_RULE = (
    f"`lr_schedule` must be one of {list(LR_SCHEDULES)} or a callable from an "
    "optimiser to a scheduler of torch, such as "
    "functools.partial(torch.optim.lr_scheduler.StepLR, step_size=3)."
)

# Adam's second moments, with a memory of 1,000 steps, are noise in the first few.
_MIN_WARMUP = 10


def warmup_cosine(step, *, n_steps, warmup=0.1):
    """Return the factor on the learning rate: a linear rise, then half a cosine.

    Parameters
    ----------
    step : int
        From 0.
    n_steps : int
    warmup : float, default=0.1
        Share of the steps that rise; at least ten steps do, or half of a short run.

    Returns
    -------
    float
        In [0, 1].
    """
    n_warmup = _n_warmup(n_steps, warmup)
    if step < n_warmup:
        return (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def warmup_constant(step, *, n_steps, warmup=0.1):
    """Return the factor on the learning rate: a linear rise, then one.

    Parameters
    ----------
    step : int
        From 0.
    n_steps : int
    warmup : float, default=0.1
        As in :func:`warmup_cosine`.

    Returns
    -------
    float
        In (0, 1].
    """
    return min(1.0, (step + 1) / _n_warmup(n_steps, warmup))


def annealed(step, *, n_steps):
    """Return the factor on the learning rate that goes with an adversary.

    Parameters
    ----------
    step : int
        From 0.
    n_steps : int

    Returns
    -------
    float
        ``(1 + 10 p) ** -0.75``, where p is the share of the training that is done. The
        paper starts from a rate of 0.01 (of SGD).

    References
    ----------
    Y. Ganin et al. (2016). Domain-Adversarial Training of Neural Networks.
    https://arxiv.org/abs/1505.07818
    """
    return (1 + 10 * step / n_steps) ** -0.75


def _n_warmup(n_steps, warmup):
    return max(1, round(warmup * n_steps), min(_MIN_WARMUP, n_steps // 2))


_FACTORS = {
    "cosine": warmup_cosine,
    "constant": warmup_constant,
    "annealed": annealed,
}


class _OneCycle(schedulers.OneCycleLR):
    """One cycle that stays at its end, where torch's raises."""

    def step(self, epoch=None):
        if self.last_epoch < self.total_steps - 1:
            super().step(epoch)


def _one_cycle(optimizer, n_steps, share=0.25):
    """Make the cycle of ``fit_one_cycle`` of fastai, each group up to its own rate.

    torch has the peak at ``pct_start * total_steps - 1`` and the end at ``total_steps -
    1``. fastai has them at a quarter of the steps and one past the last, which also
    keeps torch's phases from having no length, as with four steps in all.
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
        final_div_factor=1e5 / 25,  # fastai's is of the peak, torch's of the start
    )


def schedule_callback(lr_schedule, n_steps):
    """Make the callback that changes the learning rates in training.

    Parameters
    ----------
    lr_schedule : {"cosine", "one_cycle", "constant", "annealed"} or callable
        - ``"cosine"``: a linear warm-up over a tenth of the steps (ten at least, or
          half of a short run), then half a cosine down to zero;
        - ``"one_cycle"``: half a cosine up from a 25th in a quarter of the steps, then
          half a cosine down to 1e-5, with the momentum (Adam's first beta) going from
          0.95 to 0.85 and back, which are fastai's figures;
        - ``"constant"``: the warm-up, then the rates as they are;
        - ``"annealed"``: from the start down to a sixth, see :func:`annealed`;
        - callable: from an optimiser to a scheduler of torch, which is stepped at the
          end of each epoch; one that waits for a plateau sees the validation loss if
          there is one, the training loss otherwise.
    n_steps : int
        Batches in the whole training.

    Returns
    -------
    ResumableSchedule

    Raises
    ------
    ValueError
        If there is no schedule of this name.
    TypeError
        If it is neither a name nor callable.

    References
    ----------
    I. Loshchilov and F. Hutter (2017). SGDR: Stochastic Gradient Descent with Warm
    Restarts. https://arxiv.org/abs/1608.03983

    L. N. Smith and N. Topin (2017). Super-Convergence.
    https://arxiv.org/abs/1708.07120

    https://docs.fast.ai/callback.schedule.html#learner.fit_one_cycle
    """
    if isinstance(lr_schedule, str):
        return ResumableSchedule(_by_name(lr_schedule, n_steps), step_every="batch")
    if not callable(lr_schedule):
        raise TypeError(f"{_RULE} Got {lr_schedule!r}.")
    return ResumableSchedule(lr_schedule, monitor=_watched_loss)


def _by_name(name, n_steps):
    """Return what makes the scheduler of a name from an optimiser."""
    if name not in LR_SCHEDULES:
        near = near_matches(name, LR_SCHEDULES)
        raise ValueError(f"{_RULE} Got {name!r}.{near}")
    if name == "one_cycle":
        return partial(_one_cycle, n_steps=n_steps)
    factor = _FACTORS[name]
    return partial(schedulers.LambdaLR, lr_lambda=partial(factor, n_steps=n_steps))


def _watched_loss(net):
    epoch = net.history[-1]
    return epoch.get("valid_loss", epoch["train_loss"])


class ResumableSchedule(LRScheduler):
    """skorch's callback, made to go on where training was interrupted.

    skorch makes a new scheduler whenever training begins. That is right the first time
    only: later, one by batches would take the number of epochs for its step, and one
    that multiplies the current rate would do so once more.

    A callback that saves the state at the end of an epoch has to come after this one.

    Parameters
    ----------
    policy : callable
        From an optimiser to a scheduler of torch.
    monitor, event_name, step_every
        Of :class:`skorch.callbacks.LRScheduler`.
    """

    lr_scheduler_ = None
    resume_from_ = None

    def initialize(self):
        """Forget the scheduler and its state."""
        self.resume_from_ = None
        return super().initialize()

    def on_train_begin(self, net, **kwargs):
        """Make the scheduler, unless that of this optimiser can go on."""
        state = self.state_dict()
        made = self.lr_scheduler_
        if self.resume_from_ or made is None or made.optimizer is not net.optimizer_:
            self.lr_scheduler_ = _make(self.policy, net.optimizer_)
            if state:
                _restore(self.lr_scheduler_, state)
            self.resume_from_ = None

    def on_batch_end(self, net, training, **kwargs):
        """Step after a batch that the optimiser made a step after."""
        if getattr(net, "has_stepped", True):
            super().on_batch_end(net, training, **kwargs)

    def state_dict(self):
        """Return what training needs to go on from here.

        Returns
        -------
        dict
            State of the scheduler and hyperparameters of the groups of the optimiser,
            as several schedulers go by the rates of the moment. Empty before training.
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

    def load_state_dict(self, state):
        """Go on from a state when training begins next.

        Parameters
        ----------
        state : dict
            Of :meth:`state_dict`. Loaded after ``net.initialize()``, which forgets it;
            whether the optimiser is loaded before or after makes no difference.
        """
        self.resume_from_ = state or None


def _make(policy, optimizer):
    """Call what the user gave; most mistakes in it come out here."""
    try:
        scheduler = policy(optimizer)
    except TypeError as error:
        raise TypeError(f"{_RULE} Calling {policy!r} failed: {error}.") from error
    if not isinstance(scheduler, schedulers.LRScheduler):
        returned = type(scheduler).__name__
        raise TypeError(f"{_RULE} {policy!r} returned an object of type {returned}.")
    return scheduler


def _restore(scheduler, state):
    """Load a state; last the groups, as to make a scheduler changes their rates."""
    groups = scheduler.optimizer.param_groups
    if len(groups) != len(state["groups"]):
        raise ValueError(
            f"The state of the schedule is of {len(state['groups'])} parameter groups, "
            f"but the optimiser has {len(groups)}. Load it into a net whose stages, "
            "rates and weight decay are those of the net it was saved from."
        )
    scheduler.load_state_dict(state["scheduler"])
    for group, kept in zip(groups, state["groups"], strict=True):
        group.update(kept)
