"""Resolved recipes for tests, from the defaults of the estimators."""

from dataclasses import replace

from sktransfer import FineTunedClassifier
from sktransfer.training import ResolvedRecipe


def resolved_recipe(**changes):
    params = FineTunedClassifier().get_params(deep=False)
    return replace(ResolvedRecipe.from_params(params), **changes)
