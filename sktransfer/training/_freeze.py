"""Which stages are frozen: boundaries, rules for choosing one, gradual unfreezing."""

import numbers
import warnings
from itertools import pairwise
from typing import NamedTuple

from sktransfer.utils import near_matches

__all__ = [
    "LEVELS",
    "LITERATURE",
    "MEASURED",
    "choose_level",
    "resolve_freeze",
    "stages_above",
    "unfreezing_phases",
]


class Level(NamedTuple):
    """How much of a network is frozen.

    Attributes
    ----------
    name : str
        Name of the strategy.
    share : float
        Share of the stages that stay frozen.
    """

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
# They freeze more than is best here: with a head that starts at the probe, and with
# BatchNorm's statistics fixed, training more was better, or no worse, from 100 samples
# on; see the table in the user guide.
MEASURED = ((100, _FEATURES), (10_000, _EARLY))
# Similarity of domains: photographs have 0.75 and more, drawings 0.5, digits 0.1
# (`domain_similarity`). Features are enough for few samples in a similar domain only:
# on 60 digits or images of clothes, training all but the early stages gained 7 and 3
# points; on 80 pictures, half of them photographs, it lost 3, although probes of
# earlier stages were better (benchmarks/advisor.py).
_SIMILAR, _NEAR, _DIFFERENT = 0.7, 0.6, 0.3
# A probe with this score leaves nothing to gain by training.
_ENOUGH = 0.985
_FEWEST = MEASURED[0][0]
# Below so many samples, the early stages stay frozen whatever the evidence.
_FEW = 250


def choose_level(n_samples, *, similarity=None, probes=None, rules=MEASURED):
    """Choose how much to freeze from what is known before training.

    ``freeze="auto"`` and :class:`sktransfer.advice.TransferAdvisor` use it.

    Parameters
    ----------
    n_samples : int
    similarity : float, default=None
        Similarity to the domain of the pretraining, from 0 to 1. Less is frozen in a
        different domain, and more in a similar one unless there are probes, which are
        better evidence. Below 100 samples a known similarity decides, as probes of so
        few samples are unreliable unless they leave nothing to gain.
    probes : tuple of float (last, best, error), default=None
        Score of a probe at the last stage and at the best one, accuracy or R², and the
        standard error of their difference. Where an earlier stage is better, less is
        frozen; where the last one leaves nothing to gain, nothing is trained.
    rules : tuple of (int, int), default=MEASURED
        Numbers of samples, and the levels below them.

    Returns
    -------
    level : int
        Position in ``LEVELS``.
    why : str
        The reason.
    """
    level = next((level for size, level in rules if n_samples < size), _ALL)
    why = f"{n_samples:,} samples"
    if probes is not None and probes[0] >= _ENOUGH:
        return _FEATURES, f"a probe of the last stage scores {probes[0]:.3f}"
    if n_samples < _FEWEST and similarity is not None:
        if similarity < _NEAR:
            return _EARLY, f"{why}, but the domain is no similar one: {similarity:.2f}"
        return _FEATURES, f"{why} of a similar domain: {similarity:.2f}"
    less = min(level, max(level - 1, _EARLY if n_samples < _FEW else _ALL))
    if probes is not None:
        last, best, error = probes
        if best - last <= 2 * error:
            return level, f"{why}; no stage is clearly better than the last"
        why = f"{why}; an earlier stage scores {best - last:.3f} more"
        return (_EARLY if level == _FEATURES else less), why
    if similarity is not None and similarity < _DIFFERENT:
        return less, f"{why}; a different domain: {similarity:.2f}"
    if similarity is not None and similarity > _SIMILAR and level != _FEATURES:
        return level + 1, f"{why}; a similar domain: {similarity:.2f}"
    return level, why


def resolve_freeze(freeze, backbone, n_samples):
    """Find the boundary that `freeze` asks for.

    Parameters
    ----------
    freeze : int, float, str
        Number of leading stages, negative for all but the last ones; share of the
        stages in (0, 1); name of a stage or block; "all", "none" or "auto".
    backbone : Backbone
    n_samples : int
        Decides "auto".

    Returns
    -------
    str
        Name of a boundary; ``"input"`` if nothing is frozen.

    Raises
    ------
    ValueError
        If there is no such boundary. The message lists the names, near ones first.
    """
    n = len(backbone.stages)
    if freeze == "auto":
        level, _ = choose_level(n_samples)
        return backbone.boundary(round(LEVELS[level].share * n))
    if freeze in ("all", "none"):
        return backbone.boundary(n if freeze == "all" else 0)
    if isinstance(freeze, numbers.Real) and not isinstance(freeze, numbers.Integral):
        return backbone.boundary(round(freeze * n))
    try:
        return backbone.boundary(freeze)
    except ValueError as error:
        words = ["all", "none", "auto"]
        near = near_matches(str(freeze), [*words, *backbone.boundaries])
        raise ValueError(
            f"`freeze` must be one of {words}, a share in (0, 1), an int in "
            f"[{-n}, {n}] or a stage or block of {backbone.name}: "
            f"{backbone.stage_names}. Got {freeze!r}.{near}"
        ) from error


def stages_above(backbone, boundary):
    """Count the stages between each parameter above a boundary and the head.

    Parameters
    ----------
    backbone : Backbone
    boundary : str

    Returns
    -------
    dict of str to int
        By the names that the parameters have in a `Network`; 0 in the last stage.
    """
    names = backbone.stage_names[backbone.n_stages_before(boundary) :]
    counts = {}
    for above, (start, stop) in enumerate(reversed([*pairwise([boundary, *names])])):
        for name, _ in backbone.section(start, stop).named_parameters():
            counts.setdefault(f"suffix.{name}", above)  # shared ones: the last use
    return counts


def unfreezing_phases(backbone, boundary, *, every, max_epochs, head_first):
    """Plan gradual unfreezing: one phase per stage, from the top down.

    Parameters
    ----------
    backbone : Backbone
    boundary : str
        What is frozen to the end.
    every : int or None
        Epochs of each phase but the last, which has the rest; None for one phase.
    max_epochs : int
        Of all phases.
    head_first : bool
        Whether the head is first trained alone, as one with random weights should be.

    Returns
    -------
    list of (str, int)
        Boundaries and epochs.

    References
    ----------
    J. Howard and S. Ruder (2018). Universal Language Model Fine-tuning for Text
    Classification. https://arxiv.org/abs/1801.06146
    """
    if every is None:
        return [(boundary, max_epochs)]
    n_frozen, names = backbone.n_stages_before(boundary), backbone.stage_names
    last = len(names) - (0 if head_first else 1)
    boundaries = [names[i - 1] for i in range(last, n_frozen, -1) if i > 0]
    boundaries.append(boundary)
    n_phases = min(len(boundaries), -(-max_epochs // every))
    if n_phases < len(boundaries):
        warnings.warn(
            f"`max_epochs={max_epochs}` ends before all stages are thawed: with "
            f"`unfreeze_every={every}` that takes "
            f"{every * (len(boundaries) - 1) + 1} epochs. The stages up to "
            f"{boundaries[n_phases - 1]!r} stay as they are.",
            stacklevel=2,
        )
    rest = max_epochs - every * (n_phases - 1)
    epochs = [every] * (n_phases - 1) + [rest]
    return list(zip(boundaries[:n_phases], epochs, strict=True))
