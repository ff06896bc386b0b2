"""Gradual unfreezing: which boundaries are trained above, and for how long."""

import warnings

__all__ = ["unfreezing_phases"]


def unfreezing_phases(backbone, boundary, *, every, max_epochs, head_first):
    """Plan the phases of a training, one a stage, from the top down.

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
        Whether the head is trained alone first, as it must be if it starts at random.

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
