"""Where a network is split: the parameter `freeze`, and how "auto" chooses."""

from __future__ import annotations

import numbers
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from sktransfer.activations import Pass, Target
from sktransfer.backbones import Backbone
from sktransfer.compute import Runtime
from sktransfer.fitting._split_backbone import head_boundary, suffix_above
from sktransfer.model import make_pool
from sktransfer.training import (
    AdaptationMethod,
    LabelledSamples,
    ResolvedRecipe,
    lda_predictions,
)
from sktransfer.utils import (
    TransferWarning,
    near_matches,
    nearest_search,
    told_in_search,
    warn_caller,
)


class Level(NamedTuple):
    """A strategy by its name, and the share of the stages that it freezes."""

    name: str
    share: float


LEVELS = (
    Level("train all", 0.0),
    Level("freeze early stages", 1 / 3),
    Level("freeze early and middle stages", 2 / 3),
    Level("extract features", 1.0),
)
_ALL, _EARLY, _MIDDLE, _FEATURES = range(4)
# Rules are pairs of a number of samples and the level below it; beyond the last number,
# all stages are trained. The usual rules of thumb, as in
# https://cs231n.github.io/transfer-learning:
LITERATURE = ((500, _FEATURES), (2_000, _MIDDLE), (10_000, _EARLY))
# They freeze more than is best here. With a head that starts at the probe, fixed
# statistics of BatchNorm, low learning rates and views of the images, freezing the
# early stages alone was better on average, from a few dozen samples on; see the table
# in the user guide.
MEASURED = ((10_000, _EARLY),)
# Errors of a probe that are a smaller share of what it could get wrong leave little to
# gain, and training may do harm.
_ENOUGH = 0.97
_FEWEST_PROBED = 20  # samples
_MOST_PROBED = 1_000

# What "auto" chose in the folds of a search, by what its choice depends on.
_chosen: WeakKeyDictionary[Any, dict[tuple, set]] = WeakKeyDictionary()


class Probed(NamedTuple):
    """Samples that a linear probe, fitted to the others, predicts correctly or not.

    Attributes
    ----------
    right : ndarray of shape (n,), bool
        Whether each sample is predicted correctly.
    codes : ndarray of shape (n,), int
        Their classes.
    """

    right: np.ndarray
    codes: np.ndarray

    @property
    def is_nearly_perfect(self) -> bool:
        """Whether few are wrong, compared with those that are not of the largest class.

        Otherwise predicting the largest class could be enough.
        """
        n = len(self.right)
        at_stake = n - np.bincount(self.codes).max() if n >= _FEWEST_PROBED else 0
        n_wrong = n - self.right.sum()
        return bool(at_stake > 0 and n_wrong <= (1 - _ENOUGH) * at_stake)

    def expected(self, level: int, removed_errors: tuple) -> tuple[float, float]:
        """Estimate the accuracy of a level of `LEVELS` on other samples, and its error.

        Training is expected to remove the share of the probe's errors that it removed
        on other data, `removed_errors` of the modality. The standard error combines
        that of the accuracy of the probe, with two samples of which one is wrong added,
        and the deviation of this share from data to data.
        """
        removed, deviation = (*removed_errors, (0.0, 0.0))[level]
        n = len(self.right)
        wrong = 1 - (self.right.sum() + 1) / (n + 2)
        error = np.sqrt(wrong * (1 - wrong) / n) * (1 - removed)
        left = (1 - self.right.mean()) * (1 - removed)
        return float(1 - left), float(np.hypot(error, wrong * deviation))


def rows_to_probe(n_samples: int, most: int = _MOST_PROBED) -> np.ndarray:
    """Return the positions of at most so many samples, evenly spaced."""
    return np.unique(np.linspace(0, n_samples - 1, most).astype(int))


def choose_level(
    n_samples: int,
    *,
    probed: Probed | None = None,
    rules: tuple[tuple[int, int], ...] = MEASURED,
) -> tuple[int, str]:
    """Choose how much to freeze from what is known before training.

    If a linear probe of the features is nearly perfect, nothing is trained but the
    head. Otherwise the number of samples decides.

    Returns the position in ``LEVELS``, and the reason.
    """
    if probed is not None and probed.is_nearly_perfect:
        n_right, n = int(probed.right.sum()), len(probed.right)
        return _FEATURES, f"a linear probe predicts {n_right:,} of {n:,} correctly"
    level = next((level for size, level in rules if n_samples < size), _ALL)
    return level, f"{n_samples:,} samples"


def resolve_freeze(freeze: int | float | str, backbone: Backbone) -> str:
    """Return the name of the boundary for a value of `freeze` other than "auto".

    It is ``"input"`` if nothing is frozen. The error for a value without a boundary
    lists the names, similar ones first.
    """
    n = len(backbone.stages)
    if freeze in ("all", "none"):
        return backbone.boundary(n if freeze == "all" else 0)
    if isinstance(freeze, numbers.Real) and not isinstance(freeze, numbers.Integral):
        return backbone.boundary(round(freeze * n))
    try:
        return backbone.boundary(freeze)  # type: ignore[arg-type]
    except ValueError as error:
        words = ["all", "none", "auto"]
        near = near_matches(str(freeze), [*words, *backbone.boundaries])
        raise ValueError(
            f"`freeze` must be one of {words}, a share in (0, 1), an int in "
            f"[{-n}, {n}] or a stage or block of {backbone.name}: "
            f"{backbone.stage_names}. Got {freeze!r}.{near}"
        ) from error


def choose_boundary(
    backbone: Backbone,
    freeze: int | float | str,
    data: LabelledSamples,
    kind: str,
    recipe: ResolvedRecipe,
    method: AdaptationMethod | None,
    runtime: Runtime,
    store: Any,
) -> tuple[str, str | None]:
    """Find the boundary that `freeze` asks for, and why "auto" chose it.

    `kind` is that of the outputs; a probe is scored for those of "multiclass". An
    adaptation method that needs stages gets some. The reason is None if `freeze` is not
    "auto".
    """
    adapting = method if method is not None and method.needs_stages else None
    if freeze != "auto":
        boundary = resolve_freeze(freeze, backbone)
        if adapting and backbone.n_stages_before(boundary) == len(backbone.stages):
            raise ValueError(
                f"`method={adapting.name!r}` changes the stages that are trained. Got "
                f"`freeze={freeze!r}`, which leaves none: freeze fewer, or put an "
                "adaptation of features behind a PretrainedFeatureExtractor."
            )
        return boundary, None
    level, reason = choose_level(len(data.y))
    boundary = _boundary_of(backbone, level)
    if adapting:
        boundary = _adaptable(backbone, boundary, recipe, adapting)
    elif kind == "multiclass" and len(data.y) >= _FEWEST_PROBED:
        probed = _probe(backbone, boundary, data, recipe, runtime, store)
        level, reason = choose_level(len(data.y), probed=probed)
        boundary = _boundary_of(backbone, level)
    boundary, reason = runtime.ranks.agree((boundary, reason))
    _compare_with_folds(boundary, backbone, recipe)
    if runtime.verbose:
        print(f"freeze='auto' freezes up to {boundary!r}: {reason}")
    return boundary, reason


def _boundary_of(backbone, level):
    return backbone.boundary(round(LEVELS[level].share * len(backbone.stages)))


def _adaptable(backbone, boundary, recipe, method):
    """Return the last boundary, up to this one, above which a method can adapt."""
    most = min(backbone.n_stages_before(boundary), len(backbone.stages) - 1)
    some = (backbone.boundary(n) for n in range(most, 0, -1))
    above = partial(suffix_above, backbone, recipe=recipe)
    return next((name for name in some if method.can_adapt(above(name))), "input")


def _probe(backbone, boundary, data, recipe, runtime, store):
    """Return which of some samples a probe predicts correctly (Probed).

    It is None if features are not finite, which the training explains. The pass also
    stops at the boundary, so that a fit finds its activations stored.
    """
    rows = rows_to_probe(len(data.y))
    end = head_boundary(backbone, recipe.pooling)
    targets = [Target(end, make_pool(backbone, end, recipe.pooling)), Target(boundary)]
    a_pass = Pass(backbone, targets, store=store, runtime=runtime)
    features = [None] * len(rows)
    with closing(a_pass.iterate(data.samples.take(rows))) as passed:
        for indices, (pooled, _) in passed:  # activations are too large to hold
            for i, row in zip(indices, pooled, strict=True):
                features[i] = row
    codes = np.unique(data.y[rows], return_inverse=True)[1]
    stacked = np.stack(features)
    if not np.isfinite(stacked).all():
        return None
    return Probed(lda_predictions(stacked, codes) == codes, codes)


def _compare_with_folds(boundary, backbone, recipe):
    """Warn in the refit of a search if "auto" chose other boundaries in its folds.

    Folds that other processes fit are not known here.
    """
    search, is_refit = nearest_search()
    if search is None:
        return
    of_search = _chosen.setdefault(search, {})
    how = backbone.name, repr(backbone.preprocessing), repr(recipe.pooling)
    if not is_refit:
        of_search.setdefault(how, set()).add(boundary)
        return
    others = of_search.get(how, set()) - {boundary}
    of_search.clear()
    told = told_in_search("freeze")
    if not others or told:
        return
    told.add(boundary)
    names = " or ".join(repr(name) for name in sorted(others))
    warn_caller(
        f"`freeze='auto'` froze up to {boundary!r} in the refit of this search and up "
        f"to {names} in folds, whose scores are thus those of another training. Set "
        "`freeze`, or search over it, to train the same stages in all fits.",
        TransferWarning,
    )
