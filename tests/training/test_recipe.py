from torch import nn

from sktransfer import Augmentation, FineTunedClassifier, LoRA, Pooling, TrainingRecipe
from sktransfer.training import Recipe


def resolve(**params):
    model = FineTunedClassifier(**params)
    return Recipe.from_params(model.get_params(deep=False))


def test_defaults_of_the_estimator_are_those_of_the_recipe():
    expected, found = vars(Recipe()), vars(resolve())
    for name, value in found.items():
        if name != "pooling":
            assert value == expected[name], name
    assert found["pooling"].get_params() == Pooling().get_params()


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
    assert recipe.early_stopping and recipe.n_iter_no_change == 5
    assert recipe.pooling.kind == "max"
    settings = recipe.to_dict()
    assert settings["adapter"] == {"alpha": 16.0, "rank": 2}
    assert settings["pooling"] == {"grid": 1, "kind": "max"}


def test_schedule_is_left_to_the_method_of_adaptation():
    params = FineTunedClassifier().get_params(deep=False)
    assert Recipe.from_params(params, "annealed").lr_schedule == "annealed"
    given = params | {"training": TrainingRecipe(lr_schedule="constant")}
    assert Recipe.from_params(given, "annealed").lr_schedule == "constant"


def test_only_linear_heads_start_from_the_probe():
    assert resolve().starts_from_probe
    assert not resolve(head="mlp").starts_from_probe
    assert not resolve(head=nn.Linear(2, 2)).starts_from_probe
    assert not resolve(training=TrainingRecipe(head_init="random")).starts_from_probe
