"""A warning that names the parameters that have no effect on a training."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from fnmatch import fnmatch
from numbers import Real
from typing import TYPE_CHECKING, Any

from sktransfer.utils import (
    ParameterGroup,
    TransferWarning,
    searched_parameters,
    told_in_search,
    warn_caller,
)

if TYPE_CHECKING:
    from sktransfer.fitting._trainer import Trainer

# Patterns of the names of parameters.
_EPOCHS = (
    *("max_epochs", "lr", "batch_size", "callbacks", "early_stopping*", "training*"),
    *("augment__activations", "augment__mixup", "augment__cutmix"),
)
_VIEWS = ("augment", "augment__views")
_STAGES = (
    *("training__backbone_lr_ratio", "training__layer_decay", "training__l2_sp"),
    *("training__batch_norm", "training__unfreeze_every", "training__adapter"),
)
_PROBE = ("C", "alpha")


def warn_of_unused(trainer: Trainer) -> None:
    """Warn of parameters that were set and have no effect, if there are any.

    In a search, each is named once and not for every candidate and fold. Where the
    depth is searched, what has no effect at one has an effect at others.
    """
    changed = changed_params(trainer.settings)
    for why, patterns in _without_effect(trainer):
        warn_once([k for k in changed if any(fnmatch(k, p) for p in patterns)], why)


def warn_once(unused: list[str], why: str) -> None:
    """Warn that parameters have no effect, once in a search for each reason."""
    told = told_in_search(why)
    if told.issuperset(unused):
        return
    told.update(unused)
    *others, last = (f"`{name}`" for name in unused)
    subject = f"{', '.join(others)} and {last} have" if others else f"{last} has"
    warn_caller(f"{subject} no effect: {why}", TransferWarning)


def _without_effect(trainer):
    """Yield reasons, and patterns of the names of parameters without effect."""
    recipe = trainer.recipe
    if not _depth_is_searched():
        yield from _without_effect_at_this_depth(trainer)
    if not (trainer.is_solved or recipe.starts_from_probe):
        yield "it is the penalty of a probe, from which no head starts here.", _PROBE
    if recipe.views in ("auto", None):
        why = f"it is a number of views that are drawn, and `views` is {recipe.views!r}"
        yield f"{why}.", ("augment__n_views",)


def _without_effect_at_this_depth(trainer):
    recipe = trainer.recipe
    if trainer.is_solved:
        draws = recipe.views is not None and recipe.n_views is None
        yield _why_solved(trainer), (*_EPOCHS, *(_VIEWS if draws else ()))
    elif not trainer.split.has_stages:
        yield "no stages are trained. Freeze fewer, or leave it out.", _STAGES


def _depth_is_searched():
    return any(name.split("__")[-1] == "freeze" for name in searched_parameters())


def _why_solved(trainer):
    why = "a linear head is all that is trained, and it is solved without epochs."
    if trainer.settings.get("freeze") != "auto":
        return f"{why} Freeze fewer stages, or leave out what has no effect."
    return (
        f"{why} `freeze='auto'` froze all stages, see `freeze_reason_`; it decides in "
        "each fit, so that folds of a search and its refit may differ. Set `freeze` to "
        "train stages in all of them."
    )


def changed_params(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of parameters that differ from their defaults.

    `settings` holds the parameters of an estimator, and its class as ``"estimator"``.
    Parameters of groups are named as `set_params` names them.
    """
    signature = inspect.signature(settings["estimator"]).parameters
    names = []
    for name, value in settings.items():
        if isinstance(value, ParameterGroup):
            own = type(value)().get_params(deep=False)
            inner = value.get_params(deep=False)
            names += [f"{name}__{k}" for k, v in inner.items() if not _equal(v, own[k])]
        elif name != "estimator" and not _equal(value, signature[name].default):
            names.append(name)
    return names


def _equal(value, default):
    is_plain = isinstance(default, Real | str) and isinstance(value, Real | str)
    return value is default or (is_plain and value == default)
