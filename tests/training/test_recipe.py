import dataclasses

import pytest

from sktransfer import FineTunedClassifier, FineTunedRegressor
from sktransfer.training import Recipe


@pytest.mark.parametrize("estimator", [FineTunedClassifier(), FineTunedRegressor()])
def test_settings_are_parameters_of_the_estimators_with_their_defaults(estimator):
    settings = dataclasses.asdict(Recipe())
    parameters = estimator.get_params()
    assert settings.keys() <= parameters.keys()
    assert settings.pop("batch_size") == 32 and parameters["batch_size"] == "auto"
    for name, value in settings.items():
        assert parameters[name] == value, name


def test_recipe_cannot_be_changed_but_replaced():
    recipe = Recipe(lr=0.1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="lr"):
        recipe.lr = 0.2
    assert dataclasses.replace(recipe, max_epochs=3) == Recipe(lr=0.1, max_epochs=3)
