import pytest
from sklearn.base import clone

from sktransfer.training import LoRA, TrainingRecipe
from sktransfer.utils import InvalidParameterError, ParameterGroup, validate_groups


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
