import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.nn import functional as F

from sktransfer import (
    EarlyStopping,
    FineTunedClassifier,
    FineTunedRegressor,
    TrainingRecipe,
)
from tests._networks import SmallNetwork

DIGITS = load_digits(n_class=3)
X, Y, X_NEW = DIGITS.data[:40] / 16, DIGITS.target[:40], DIGITS.data[40:90] / 16


class Network(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyLinear(12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU())


def model(**settings):
    settings = {"freeze": 1, "max_epochs": 2, "lr": 1e-2, "random_state": 0, **settings}
    return FineTunedClassifier(Network, **settings)


def focal(scores, y):
    losses = F.cross_entropy(scores, y, reduction="none")
    return (1 - (-losses).exp()) ** 2 * losses


def test_loss_given_as_a_callable_is_minimised():
    def cross_entropy(scores, y):
        return F.cross_entropy(scores, y, reduction="none")

    expected = model().fit(X, Y).predict_proba(X_NEW)
    found = model(loss=cross_entropy).fit(X, Y).predict_proba(X_NEW)
    np.testing.assert_array_equal(found, expected)
    other = model(loss=focal).fit(X, Y).predict_proba(X_NEW)
    assert abs(other - expected).max() > 1e-4


def test_head_alone_is_trained_by_another_loss():
    probe, other = (model(freeze="all", loss=loss) for loss in ("cross_entropy", focal))
    assert len(probe.fit(X, Y).history_) == 1 and len(other.fit(X, Y).history_) == 2
    assert other.C_ == probe.C_  # it starts from the probe
    assert other.model_card_.trained["strategy"] == "head"


def test_cosine_head_starts_from_the_means_of_the_classes():
    settings = {"head": "cosine", "freeze": "all", "max_epochs": 1, "lr": 1e-9}
    given = model(**settings).fit(X, Y)
    features, weight = given.transform(X), given.net_.module_.head.weight
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    means = np.stack([units[label == Y].mean(axis=0) for label in given.classes_])
    np.testing.assert_allclose(weight.detach(), means, atol=1e-4)
    drawn = model(**settings, training=TrainingRecipe(head_init="random")).fit(X, Y)
    assert abs(drawn.net_.module_.head.weight.detach().numpy() - means).max() > 0.1


def test_loss_with_an_invalid_result():
    message = r"`loss` must return .* Got shape \(\); reduce over the outputs, not over"
    with pytest.raises(ValueError, match=message):
        model(loss=F.cross_entropy).fit(X, Y)
    with pytest.raises(ValueError, match=r"must be one of \['cross_entropy'.*'focal'"):
        model(loss="focal").fit(X, Y)
    smooth = model(loss=focal, training=TrainingRecipe(label_smoothing=0.1))
    with pytest.raises(ValueError, match="`training__label_smoothing` must be 0 with"):
        smooth.fit(X, Y)


def test_grid_over_parameters_of_groups():
    grid = {
        "training__weight_decay": [0.0, 5.0],
        "training__lr_schedule": ["cosine", "constant"],
        "early_stopping__n_iter_no_change": [1],
    }
    search = GridSearchCV(model(), grid, cv=2, error_score="raise").fit(X, Y)
    assert {*search.best_params_} == {*grid}
    best = search.best_estimator_
    assert best.training.weight_decay == search.best_params_["training__weight_decay"]
    by_hand = model(
        training=best.training, early_stopping=EarlyStopping(n_iter_no_change=1)
    ).fit(X, Y)
    np.testing.assert_array_equal(
        by_hand.predict_proba(X_NEW), search.predict_proba(X_NEW)
    )


def test_groups_and_shorthands_are_the_same_training():
    one = model(early_stopping=True, training=TrainingRecipe(adapter=None)).fit(X, Y)
    other = model(early_stopping=EarlyStopping()).fit(X, Y)
    np.testing.assert_array_equal(one.predict_proba(X_NEW), other.predict_proba(X_NEW))


def test_batch_size_is_the_number_of_samples_per_step():
    sizes = []

    class Sizes(nn.Linear):
        def forward(self, z):
            if self.training:
                sizes.append(len(z))
            return super().forward(z)

    model(head=Sizes(8, 3), batch_size=10, max_epochs=1).fit(X, Y)
    assert sizes == [10, 10, 10, 10]


@pytest.mark.parametrize(
    ("settings", "strategy"),
    [
        ({"freeze": 8}, "partial fine-tuning"),
        ({"freeze": "none"}, "full fine-tuning"),
        (
            {"freeze": 8, "training__unfreeze_every": 1},
            "partial fine-tuning, gradual unfreezing",
        ),
        ({"freeze": 8, "training__adapter": "lora"}, "adapters (lora)"),
        ({"freeze": "all", "head": "cosine"}, "head"),
        ({"freeze": "all"}, "linear probe"),
    ],
)
def test_model_card_names_the_strategy(settings, strategy):
    X, y = load_digits(n_class=2, return_X_y=True)
    X, y = X.reshape(-1, 8, 8)[:8] / 16, y[:8]
    settings |= {"lr": 1e-5, "max_epochs": 2, "random_state": 0}
    model = FineTunedClassifier(SmallNetwork).set_params(**settings).fit(X, y)
    assert model.model_card_.trained["strategy"] == strategy


def test_partial_fit_counts_epochs():
    X, y = load_digits(n_class=2, return_X_y=True)
    X, y = X.reshape(-1, 8, 8)[:8] / 16, y[:8]
    model = FineTunedRegressor(SmallNetwork, freeze=8, lr=1e-5, random_state=0)
    model.partial_fit(X, y).partial_fit(X[:4], y[:4])
    trained = model.model_card_.trained
    assert (trained["epochs"], trained["samples"]) == (2, 8)
    assert trained["samples_later"] == 4
    assert trained["estimator"] == "FineTunedRegressor"
    assert "classes" not in trained
