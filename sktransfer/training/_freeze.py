"""From what `freeze` says to a boundary."""

import numbers

from sktransfer.utils import near_matches

__all__ = ["resolve_freeze"]

# Below so many samples, freeze this share of the stages: all; early and middle ones;
# early ones only; beyond, none. The usual rule of thumb by size, as in Yosinski et al.
# (2014), https://arxiv.org/abs/1411.1792, and the transfer learning notes of CS231n.
_SHARE_BY_SIZE = ((500, 1.0), (2_000, 2 / 3), (10_000, 1 / 3))


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


def _share_by_size(n_samples):
    return next((share for size, share in _SHARE_BY_SIZE if n_samples < size), 0.0)


def _stages_of_share(share, n_stages):
    return round(share * n_stages)
