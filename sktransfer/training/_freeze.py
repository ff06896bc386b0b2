"""From what `freeze` says to a boundary."""

import numbers
from itertools import pairwise

from sktransfer.utils import near_matches

__all__ = ["resolve_freeze", "stages_above"]

# Below so many samples, freeze this share of the stages: all; the early ones; beyond,
# none. The usual rules of thumb freeze more. From a head that starts at the probe, with
# BatchNorm's statistics fixed, training more was better, or no worse, from 100 samples
# on: the table in the user guide.
_SHARE_BY_SIZE = ((100, 1.0), (10_000, 1 / 3))


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
        return backbone.boundary(_stages_of_share(_share_by_size(n_samples), n))
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


def _share_by_size(n_samples):
    return next((share for size, share in _SHARE_BY_SIZE if n_samples < size), 0.0)


def _stages_of_share(share, n_stages):
    return round(share * n_stages)
