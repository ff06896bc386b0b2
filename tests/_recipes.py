"""Resolved recipes for tests, from the defaults of the estimators."""

from dataclasses import replace

from sktransfer import FineTunedClassifier
from sktransfer.training import ResolvedRecipe

# What a fit puts in place of "auto".
_MEASURED = {"backbone_lr_ratio": 0.2, "max_epochs": 20}


def resolved_recipe(**changes):
    params = FineTunedClassifier().get_params(deep=False)
    return replace(ResolvedRecipe.from_params(params), **_MEASURED | changes)
