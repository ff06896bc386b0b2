"""How many stages to freeze by the number of samples, and gradual unfreezing."""

from __future__ import annotations

import warnings
from itertools import pairwise

from sktransfer.backbones import Backbone


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
