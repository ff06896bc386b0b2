import pytest
from sklearn.base import clone
from torch import nn

from sktransfer import (
    Augmentation,
    EarlyStopping,
    FineTunedClassifier,
    LoRA,
    Pooling,
    TrainingRecipe,
)
from sktransfer.training import ResolvedRecipe


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (Pooling, "max", "Pooling(kind='max')"),
        (Augmentation, None, "Augmentation(views=None)"),
        (Augmentation, "auto", "Augmentation()"),
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
    "kind", [Pooling, LoRA, TrainingRecipe, EarlyStopping, Augmentation]
)
def test_groups_are_cloneable_and_valid_as_they_are(kind):
    group = kind()
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


def resolve(**params):
    model = FineTunedClassifier(**params)
    return ResolvedRecipe.from_params(model.get_params(deep=False))


def test_settings_of_groups_and_shorthands():
    recipe = resolve(
        batch_size=7,
        pooling="max",
        augment=Augmentation("crop", n_views=2, mixup=0.1),
        early_stopping=True,
        training=TrainingRecipe(ema=0.9, adapter=LoRA(rank=2)),
    )
    assert (recipe.batch_size, recipe.ema, recipe.adapter.rank) == (7, 0.9, 2)
    assert (recipe.views, recipe.n_views, recipe.mixes) == ("crop", 2, True)
    assert recipe.early_stopping and recipe.n_iter_no_change == "auto"
    assert recipe.pooling.kind == "max"
    settings = recipe.to_dict()
    assert settings["adapter"] == {"alpha": 16.0, "rank": 2}
    assert settings["pooling"] == {"grid": 1, "kind": "max"}


def test_schedule_is_left_to_the_method_of_adaptation():
    params = FineTunedClassifier().get_params(deep=False)
    assert ResolvedRecipe.from_params(params, "annealed").lr_schedule == "annealed"
    given = params | {"training": TrainingRecipe(lr_schedule="constant")}
    assert ResolvedRecipe.from_params(given, "annealed").lr_schedule == "constant"


def test_only_linear_heads_start_from_the_probe():
    assert resolve().starts_from_probe
    assert not resolve(head="mlp").starts_from_probe
    assert not resolve(head=nn.Linear(2, 2)).starts_from_probe
    assert not resolve(training=TrainingRecipe(head_init="random")).starts_from_probe
