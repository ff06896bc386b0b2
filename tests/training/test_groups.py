import pytest
from sklearn.base import clone

from sktransfer import (
    Augmentation,
    EarlyStopping,
    FineTunedClassifier,
    LoRA,
    Pooling,
    TrainingRecipe,
)


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (Pooling, "max", "Pooling(kind='max')"),
        (Augmentation, None, "Augmentation()"),
        (Augmentation, "crop", "Augmentation(views='crop')"),
        (EarlyStopping, True, "EarlyStopping()"),
        (EarlyStopping, False, "None"),
        (LoRA, "lora", "LoRA()"),
        (LoRA, None, "None"),
        (TrainingRecipe, None, "TrainingRecipe()"),
    ],
)
def test_shorthands(kind, given, expected):
    assert repr(kind.of(given)) == expected


@pytest.mark.parametrize(
    "group", [Pooling(), LoRA(), TrainingRecipe(), EarlyStopping(), Augmentation()]
)
def test_groups_are_cloneable_and_valid_as_they_are(group):
    group.validate()
    assert clone(group).get_params() == group.get_params()
    names = group.get_params(deep=False).keys()
    assert names == group._parameter_constraints.keys()


def test_switched_off_groups_stay_off_until_one_of_their_parameters_is_set():
    model = FineTunedClassifier()
    params = model.get_params()
    assert "early_stopping__n_iter_no_change" not in params
    assert "training__adapter__rank" not in params
    assert model.set_params(**params).early_stopping is False
    model.set_params(early_stopping__n_iter_no_change=2, training__adapter__rank=4)
    assert model.early_stopping.n_iter_no_change == 2
    assert model.training.adapter.rank == 4


def test_pooling_in_short():
    assert Pooling("max").in_short() == "max"
    assert Pooling("max", grid=2).in_short() == ("max", 2)
