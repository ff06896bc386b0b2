import re

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import make_pipeline

from sktransfer import utils
from sktransfer.training import LoRA, TrainingRecipe
from sktransfer.utils import (
    InvalidParameterError,
    ParameterGroup,
    _validation,
    captioned_block,
    check_sample_weight,
    spawn_seed,
    validate_groups,
)


def test_all_names_are_exported():
    assert set(_validation.__all__) <= set(utils.__all__)


def test_check_sample_weight_default_is_one_per_sample():
    np.testing.assert_array_equal(check_sample_weight(None, np.zeros((3, 2))), [1] * 3)


def test_spawn_seed_int_repeats():
    assert spawn_seed(3) == spawn_seed(3)
    assert spawn_seed(3) != spawn_seed(4)


def test_spawn_seed_random_state_advances():
    generator = np.random.RandomState(3)
    first, second = spawn_seed(generator), spawn_seed(generator)
    assert first == spawn_seed(3)
    assert first != second


def test_spawn_seed_none_leaves_the_global_generator_alone():
    before = np.random.mtrand._rand.get_state()[1].copy()
    assert spawn_seed(None) != spawn_seed(None)
    np.testing.assert_array_equal(before, np.random.mtrand._rand.get_state()[1])


def test_spawn_seed_is_an_int_that_torch_accepts():
    seed = spawn_seed(0)
    assert type(seed) is int
    assert 0 <= seed < 2**31 - 1
    assert torch.Generator().manual_seed(seed).initial_seed() == seed


def test_spawn_seed_invalid_random_state_raises():
    with pytest.raises(ValueError, match="'abc' cannot be used to seed"):
        spawn_seed("abc")


class Captioned(BaseEstimator):
    def __init__(self, depth=3):
        self.depth = depth

    def fit(self, X, y=None):
        return self

    def _sk_visual_block_(self):
        return captioned_block(self, f"{self.depth} stages")


def test_caption_is_in_the_diagram_of_an_estimator_and_of_its_pipeline():
    for model in (Captioned(depth=2), make_pipeline(Captioned(depth=2))):
        assert captions(model) == ["2 stages"]
        assert "Captioned(depth=2)" in model._repr_html_()


def captions(estimator):
    return re.findall(r'<div class="caption">(.*?)</div>', estimator._repr_html_())


class Colour(ParameterGroup):
    _shorthand = "name"

    def __init__(self, name="red", *, depth=1):
        self.name = name
        self.depth = depth


class Picture(ParameterGroup):
    _groups = {"colour": Colour}

    def __init__(self, colour=None):
        self.colour = colour


def test_parameters_of_a_group_are_listed_whether_it_is_given_or_not():
    deep = {"colour": None, "colour__name": "red", "colour__depth": 1}
    assert Picture().get_params() == deep
    assert Picture().get_params(deep=False) == {"colour": None}
    assert Picture("blue").get_params() == deep | {
        "colour": "blue",
        "colour__name": "blue",
    }
    colour = Colour("blue", depth=2)
    assert Picture(colour).get_params()["colour__depth"] == 2


def test_setting_a_parameter_of_a_group_makes_it_an_object():
    picture = Picture().set_params(colour__depth=3)
    assert repr(picture.colour) == "Colour(depth=3)"
    picture = Picture("blue").set_params(colour__depth=3)
    assert (picture.colour.name, picture.colour.depth) == ("blue", 3)
    picture.set_params(colour="green", colour__depth=4)
    assert (picture.colour.name, picture.colour.depth) == ("green", 4)
    picture.set_params(colour=None)
    assert picture.colour is None
    with pytest.raises(ValueError, match="Invalid parameter 'width' for estimator"):
        picture.set_params(colour__width=1)


def test_parameters_that_were_read_can_be_set_again():
    for picture in (Picture(), Picture("blue"), Picture(Colour(depth=5))):
        again = Picture().set_params(**picture.get_params())
        assert (
            again.get_params(deep=True)["colour__depth"]
            == (picture.get_params()["colour__depth"])
        )


def test_clones_share_no_group():
    picture = Picture(Colour(depth=2))
    twin = clone(picture).set_params(colour__depth=3)
    assert (picture.colour.depth, twin.colour.depth) == (2, 3)


def test_groups_are_validated_with_their_own_names():
    recipe = TrainingRecipe(adapter=LoRA(rank=0))
    message = "The 'rank' parameter of LoRA must be an int .* Got 0 instead"
    with pytest.raises(InvalidParameterError, match=message):
        recipe.validate()
    with pytest.raises(InvalidParameterError, match="of TrainingRecipe .* Got -1"):
        TrainingRecipe(weight_decay=-1).validate()
    validate_groups(Picture(), {"colour": Colour})  # nothing is given
