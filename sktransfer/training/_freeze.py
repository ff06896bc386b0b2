"""How many stages to freeze by the number of samples, and gradual unfreezing."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import NamedTuple

from sktransfer.backbones import Backbone


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


def choose_level(
    n_samples: int,
    *,
    similarity: float | None = None,
    probes: tuple[float, float, float] | None = None,
    rules: tuple[tuple[int, int], ...] = MEASURED,
) -> tuple[int, str]:
    """Choose how much to freeze from what is known before training.

    Less is frozen in a domain that differs from that of the pretraining (a `similarity`
    near 0), and more in a similar one (near 1). `probes` are better evidence: scores of
    a probe at the last stage and at the best one, accuracy or R², and the standard
    error of their difference. If an earlier stage is better, less is frozen; if the
    last one leaves nothing to gain, nothing is trained. Below 100 samples a known
    similarity decides, as probes of so few samples are unreliable unless they leave
    nothing to gain.

    Returns the position in ``LEVELS``, and the reason.
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


def stages_above(backbone: Backbone, boundary: str) -> dict[str, int]:
    """Count the stages between each parameter above a boundary and the head.

    Parameters have the names of a :class:`Network`; those of the last stage have a 0.
    """
    names = backbone.stage_names[backbone.n_stages_before(boundary) :]
    counts: dict[str, int] = {}
    for above, (start, stop) in enumerate(reversed([*pairwise([boundary, *names])])):
        for name, _ in backbone.section(start, stop).named_parameters():
            counts.setdefault(f"suffix.{name}", above)  # shared ones: the last use
    return counts


def unfreezing_phases(
    backbone: Backbone,
    boundary: str,
    *,
    every: int | None,
    max_epochs: int,
    head_first: bool,
) -> list[tuple[str, int]]:
    """Plan gradual unfreezing: boundaries and their epochs, from the top down.

    Each phase unfreezes one more stage for `every` epochs, down to the boundary, and
    the last phase has the rest of the epochs; without `every` there is one phase. With
    `head_first`, the head is first trained alone, as one with random weights should be.

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
