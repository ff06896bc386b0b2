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
# Of the domain: photographs have 0.75 and more, digits 0.1 (`domain_similarity`).
SIMILAR, DIFFERENT = 0.7, 0.3
# Accuracy of a probe that leaves nothing to gain by training.
ENOUGH = 0.985


def choose_level(n_samples, *, similarity=None, probes=None, rules=MEASURED):
    """Choose how much to freeze, and say why.

    Parameters
    ----------
    n_samples : int
    similarity : float, default=None
        Of the domain, from 0 to 1. In a different one less is frozen; in a similar one
        more, unless probes say better.
    probes : tuple of float (last, best, error), default=None
        Accuracy of a probe at the last stage and at the best one, and the standard
        error of their difference. Where an earlier stage is better, less is frozen;
        where the last one is right nearly always, nothing is trained.
    rules : tuple of (int, int), default=MEASURED
        Numbers of samples, and the levels below them.

    Returns
    -------
    level : int
        Position in ``LEVELS``.
    why : str
    """
    level = next((level for size, level in rules if n_samples < size), _ALL)
    why = f"{n_samples:,} samples"
    if probes is not None:
        last, best, error = probes
        if last >= ENOUGH:
            return _FEATURES, f"a probe of the last stage is right in {last:.1%}"
        if best - last > 2 * error:
            less = min(level, _EARLY) if level == _FEATURES else max(level - 1, _ALL)
            return less, f"{why}; an earlier stage has {best - last:.1%} more"
        return level, f"{why}; no stage is clearly better than the last"
    if similarity is not None and similarity < DIFFERENT:
        return max(level - 1, _ALL), f"{why}; a different domain: {similarity:.2f}"
    if similarity is not None and similarity > SIMILAR:
        return min(level + 1, _FEATURES), f"{why}; a similar domain: {similarity:.2f}"
    return level, why
