"""How much of a network to freeze, by what is known before training.

``freeze="auto"`` and :class:`sktransfer.advice.TransferAdvisor` go by the same rules.
"""

from typing import NamedTuple

__all__ = ["LEVELS", "LITERATURE", "MEASURED", "Level", "choose_level"]


class Level(NamedTuple):
    """How much is frozen.

    Attributes
    ----------
    name : str
        What is done.
    share : float
        Of the stages that stay frozen.
    """

    name: str
    share: float


# From all to nothing that is trained.
LEVELS = (
    Level("train all", 0.0),
    Level("freeze early stages", 1 / 3),
    Level("freeze early and middle stages", 2 / 3),
    Level("extract features", 1.0),
)
_ALL, _EARLY, _MIDDLE, _FEATURES = range(4)
# Below so many samples this level, beyond all is trained. The usual rules of thumb, as
# in https://cs231n.github.io/transfer-learning:
LITERATURE = ((500, _FEATURES), (2_000, _MIDDLE), (10_000, _EARLY))
# They freeze more than is best here: from a head that starts at the probe, with
# BatchNorm's statistics fixed, training more was better, or no worse, from 100 samples
# on: the table in the user guide.
MEASURED = ((100, _FEATURES), (10_000, _EARLY))
# Of the domain: photographs have 0.75 and more, drawings 0.5, digits 0.1
# (`domain_similarity`). Features are enough for few samples only in a similar one: of
# 60 digits or images of clothes, training all but the early stages gained 7 and 3
# points, and of 80 pictures, half of them photographs, it lost 3, although probes of
# earlier stages were better (benchmarks/advisor.py).
_SIMILAR, _NEAR, _DIFFERENT = 0.7, 0.6, 0.3
# Score of a probe that leaves nothing to gain by training.
_ENOUGH = 0.985
_FEWEST = MEASURED[0][0]
# Below so many samples the early stages stay as they are, whatever the evidence.
_FEW = 250


def choose_level(n_samples, *, similarity=None, probes=None, rules=MEASURED):
    """Choose how much to freeze, and say why.

    Parameters
    ----------
    n_samples : int
    similarity : float, default=None
        Of the domain, from 0 to 1. In a different one less is frozen; in a similar one
        more, unless there are probes, which say better. Below 100 samples it is the
        similarity that says, if it is known: probes of so few do not, but for one that
        leaves nothing to gain.
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
    """
    level = next((level for size, level in rules if n_samples < size), _ALL)
    why, least = f"{n_samples:,} samples", _EARLY if n_samples < _FEW else _ALL
    if probes is not None and probes[0] >= _ENOUGH:
        return _FEATURES, f"a probe of the last stage scores {probes[0]:.3f}"
    if n_samples < _FEWEST and similarity is not None:
        if similarity < _NEAR:
            return _EARLY, f"{why}, but the domain is no similar one: {similarity:.2f}"
        return _FEATURES, f"{why} of a similar domain: {similarity:.2f}"
    if probes is not None:
        last, best, error = probes
        if best - last <= 2 * error:
            return level, f"{why}; no stage is clearly better than the last"
        less = _EARLY if level == _FEATURES else max(level - 1, least)
        why = f"{why}; an earlier stage scores {best - last:.3f} more"
        return min(level, less), why
    if similarity is not None and similarity < _DIFFERENT:
        less = min(level, max(level - 1, least))
        return less, f"{why}; a different domain: {similarity:.2f}"
    if similarity is not None and similarity > _SIMILAR and level != _FEATURES:
        return level + 1, f"{why}; a similar domain: {similarity:.2f}"
    return level, why
