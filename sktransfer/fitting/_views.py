"""Which random views a training draws, by what the modality of its samples offers."""

from __future__ import annotations

from dataclasses import replace

from sktransfer.inputs import Preprocessing, modality_of
from sktransfer.training import ResolvedRecipe


def with_views_of(
    recipe: ResolvedRecipe, preprocessing: Preprocessing
) -> ResolvedRecipe:
    """Return a recipe with the number of its views, by the modality if it is None.

    Raises a ValueError, before anything is computed, if there are no such views.
    """
    if recipe.views in (None, "auto"):
        return recipe
    modality = modality_of(backbone=preprocessing)
    modality.augmentation(recipe.views, preprocessing)
    return replace(recipe, n_views=recipe.n_views or modality.default_n_views)
