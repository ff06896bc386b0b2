import warnings

import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from sktransfer import (
    Augmentation,
    EarlyStopping,
    FineTunedClassifier,
    FineTunedRegressor,
    TrainingRecipe,
    TransferWarning,
)
from tests._networks import SmallNetwork

DIGITS = load_digits(n_class=2)
X, Y = DIGITS.images[:48] / 16, DIGITS.target[:48]


def messages(model, y=Y):
    """Return what a fit says about parameters without effect."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    told = [str(w.message) for w in caught if w.category is TransferWarning]
    return [text for text in told if " no effect: " in text]


def make(kind=FineTunedClassifier, **settings):
    model = kind(SmallNetwork, freeze="all", random_state=0)
    return model.set_params(**settings)


def test_parameters_that_a_solved_head_does_not_take_are_named():
    model = make(
        lr=0.1,
        max_epochs=5,
        augment=Augmentation("crop", mixup=0.2, tta=2),
        early_stopping=EarlyStopping(n_iter_no_change=2),
        training=TrainingRecipe(ema=0.9),
    )
    names = (
        "augment__mixup augment__views early_stopping__n_iter_no_change lr max_epochs"
    )
    listed = ", ".join(f"`{name}`" for name in names.split())
    assert messages(model) == [
        f"{listed} and `training__ema` have no effect: a linear head is all that is "
        "trained, and it is solved without epochs. Freeze fewer stages, or leave out "
        "what has no effect."
    ]
    model = make(FineTunedRegressor, early_stopping=True)
    (text,) = messages(model, DIGITS.data[:48, 10])
    assert text.startswith("`early_stopping` has no effect: a linear head is all ")


def test_other_reasons():
    (text,) = messages(make(head="mlp", max_epochs=1, training__l2_sp=0.1))
    assert text == (
        "`training__l2_sp` has no effect: no stages are trained. Freeze fewer, or "
        "leave it out."
    )
    (text,) = messages(make(head="mlp", max_epochs=1, C=2.0))
    assert text.startswith("`C` has no effect: it is the penalty of a probe, from ")
    (text,) = messages(make(augment__n_views=2))
    assert text == (
        "`augment__n_views` has no effect: it is a number of views that are drawn, and "
        "`views` is 'auto'."
    )


def test_choice_of_auto_is_named_and_can_be_seen_per_candidate():
    def depth(model, X, y):
        return model.freeze_depth_

    search = GridSearchCV(
        make(freeze="auto"),
        {"lr": [1e-3, 1e-4]},
        cv=2,
        scoring={"accuracy": "accuracy", "depth": depth},
        refit="accuracy",
    )
    texts = messages(search)
    depths = [search.cv_results_[f"split{i}_test_depth"] for i in range(2)]
    n_all = sum((of_split == 9).sum() for of_split in depths)
    n_all += search.best_estimator_.freeze_depth_ == 9
    assert len(texts) == 1 and n_all > 0  # one of the fits that froze all stages
    assert "`freeze='auto'` froze all stages" in texts[0]


class CrossValidated:
    """Model that is cross-validated, always from the same line."""

    def __init__(self, model):
        self.model = model

    def fit(self, X, y):
        cross_val_score(self.model, X, y, cv=2)


def test_search_names_each_parameter_once():
    grid = {"max_epochs": [5, 20], "lr": [1e-3, 1e-4]}
    (text,) = messages(GridSearchCV(make(), grid, cv=2))
    assert text.startswith("`lr` and `max_epochs` have no effect: a linear head is ")
    for _ in range(2):  # as does another search from the same line
        assert len(messages(CrossValidated(make(lr=1e-3)))) == 1
    for _ in range(2):  # fits by hand say so each time
        assert len(messages(make(lr=1e-3))) == 1


def test_search_over_the_depth_names_none():
    model = make(lr=1e-3, max_epochs=2, training__layer_decay=0.9)
    grid = {"freeze": [8, "all"]}
    assert messages(GridSearchCV(model, grid, cv=2)) == []
    assert messages(GridSearchCV(make_pipeline(model), piped(grid), cv=2)) == []
    (text,) = messages(GridSearchCV(model.set_params(augment__n_views=2), grid, cv=2))
    assert text.startswith("`augment__n_views` has no effect")


def piped(grid):
    return {f"finetunedclassifier__{name}": values for name, values in grid.items()}


def test_search_names_early_stopping_with_too_few_epochs_once():
    stopping = EarlyStopping(n_iter_no_change=2)
    model = make(head="mlp", max_epochs=1, early_stopping=stopping)
    (text,) = messages(GridSearchCV(model, {"max_epochs": [1, 2, 3]}, cv=2))
    assert text.startswith("`early_stopping` has no effect: to hold samples out for ")
    assert "needs `max_epochs` of at least 4 here" in text


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"lr": 5e-4, "max_epochs": "auto", "early_stopping": False, "augment": None},
        {"augment": Augmentation("crop", n_views=2, tta=2), "pooling": "max", "C": 2.0},
        {"freeze": 8, "lr": 1e-3, "max_epochs": 1, "augment": "crop"},
    ],
    ids=["defaults", "as the defaults", "of a head", "of stages"],
)
def test_parameters_with_effect_are_not_named(settings):
    assert messages(make(**settings)) == []
