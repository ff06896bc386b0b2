"""A line about a fitted model, for its diagram in a notebook."""

from __future__ import annotations

from sktransfer.model._fitted import FittedModel


def caption_of(model: FittedModel) -> str:
    """Return what is frozen, what was trained on how many samples, and the license."""
    card = model.model_card
    return f"{card.name}: {_work(model, card.trained or {})}; license {card.license}"


def _work(model, trained):
    if model.network is None:
        return f"features after {', '.join(model.outputs.stages)}"
    where = f" (up to {model.boundary})" if model.boundary != "input" else ""
    frozen = f"{trained['freeze_depth']} of {len(model.backbone.stages)} stages frozen"
    return f"{frozen}{where}; {trained['strategy']} on {trained['samples']:,} samples"
