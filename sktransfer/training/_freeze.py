"""From what `freeze` says to a boundary."""

import numbers
from itertools import pairwise

from sktransfer.training._rules import LEVELS, choose_level
from sktransfer.utils import near_matches

__all__ = ["resolve_freeze", "stages_above"]


def resolve_freeze(freeze, backbone, n_samples):
    """Find the boundary that `freeze` asks for.

    Parameters
    ----------
    freeze : int, float, str
        Number of leading stages, negative for all but the last so many; share of the
        stages in (0, 1); name of a stage or block; "all", "none" or "auto".
    backbone : Backbone
    n_samples : int
        What "auto" goes by.

    Returns
    -------
    str
        Name of a boundary; ``"input"`` if nothing is frozen.

    Raises
    ------
    ValueError
        If there is no such boundary. The names are listed, near ones first.
    """
    n = len(backbone.stages)
    if freeze == "auto":
        level, _ = choose_level(n_samples)
        return backbone.boundary(_stages_of_share(LEVELS[level].share, n))
    if freeze in ("all", "none"):
        return backbone.boundary(n if freeze == "all" else 0)
    if isinstance(freeze, numbers.Real) and not isinstance(freeze, numbers.Integral):
        return backbone.boundary(_stages_of_share(freeze, n))
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


def _stages_of_share(share, n_stages):
    return round(share * n_stages)
