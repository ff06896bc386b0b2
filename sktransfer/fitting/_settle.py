"""Settings of a training that depend on the samples: its epochs and random views."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral

from sktransfer.inputs import Preprocessing, modality_of
from sktransfer.training import ResolvedRecipe
from sktransfer.utils import Interval, StrOptions

# Constraint of the parameter `max_epochs`.
EPOCHS = [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")]
_MOST, _FEWEST = 20, 3


def choose_epochs(
    max_epochs: int | str, n_samples: int = 1, most_seen: int | None = None
) -> int:
    """Return the number of epochs for a value of `max_epochs`.

    "auto" is 20 or, if more than `most_seen` samples would pass, as few as that, and at
    least 3: the more samples there are, the more is learned in each epoch.
    """
    if not isinstance(max_epochs, str):
        return max_epochs
    limit = _MOST if most_seen is None else most_seen // n_samples
    return max(_FEWEST, min(_MOST, limit))


def settle(
    recipe: ResolvedRecipe, preprocessing: Preprocessing, n_samples: int
) -> ResolvedRecipe:
    """Return a recipe whose epochs and number of views are settled by the samples.

    Early stopping chooses among 20 epochs, unless `max_epochs` is a number. Raises a
    ValueError, before anything is computed, if the modality has no such views.
    """
    modality = modality_of(backbone=preprocessing)
    most_seen = None if recipe.early_stopping else modality.most_seen
    n_epochs = choose_epochs(recipe.max_epochs, n_samples, most_seen)
    recipe = replace(recipe, max_epochs=n_epochs)
    if recipe.views in (None, "auto"):
        return recipe
    modality.augmentation(recipe.views, preprocessing)
    return replace(recipe, n_views=recipe.n_views or modality.default_n_views)
