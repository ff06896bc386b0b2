import pytest
from sklearn.datasets import load_digits
from sktransfer._trained import strategy_of

from sktransfer import FineTunedClassifier, FineTunedRegressor


@pytest.mark.parametrize(
    ("settings", "strategy"),
    [
        ({"freeze": 8}, "partial fine-tuning"),
        ({"freeze": "none"}, "full fine-tuning"),
        ({"freeze": 8, "unfreeze_every": 1}, "partial fine-tuning, gradual unfreezing"),
        ({"freeze": 8, "adapter": "lora"}, "adapters (lora)"),
        ({"freeze": "all", "head": "cosine"}, "head"),
    ],
)
def test_model_card_names_the_strategy(settings, strategy):
    X, y = load_digits(n_class=2, return_X_y=True)
    X, y = X.reshape(-1, 8, 8)[:8], y[:8]
    settings |= {"lr": 1e-5, "max_epochs": 2, "random_state": 0}
    model = FineTunedClassifier(image_size=32, **settings).fit(X, y)
    assert model.model_card_.trained["strategy"] == strategy == strategy_of(model)


def test_partial_fit_counts_epochs():
    X, y = load_digits(n_class=2, return_X_y=True)
    X, y = X.reshape(-1, 8, 8)[:8], y[:8]
    model = FineTunedRegressor(freeze=8, image_size=32, lr=1e-5, random_state=0)
    model.partial_fit(X, y).partial_fit(X[:4], y[:4])
    trained = model.model_card_.trained
    assert (trained["epochs"], trained["samples"]) == (2, 8)
    assert trained["samples_later"] == 4
    assert trained["estimator"] == "FineTunedRegressor"
    assert "classes" not in trained
