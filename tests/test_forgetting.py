import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sktransfer._forgetting import photographs
from torch import nn

from sktransfer import FineTunedClassifier, config_context
from sktransfer.backbones import load_backbone

X, Y = load_digits().images[:60], load_digits().target[:60]


def fitted(**settings):
    settings = {"image_size": 64, "max_epochs": 2, "random_state": 0, **settings}
    return FineTunedClassifier(**settings).fit(X, Y)


def test_nothing_is_forgotten_that_is_frozen():
    assert fitted(freeze="all").forgetting_ == 0


def test_more_is_forgotten_at_a_higher_rate():
    little = fitted(freeze=7, lr=1e-6)
    much = fitted(freeze="none", lr=3e-3)
    assert 0 <= little.forgetting_ < 0.2 < much.forgetting_ <= 1


def test_pickles_load_the_pretrained_weights_again():
    model = fitted(freeze=5)
    expected = model.forgetting_
    del model._forgetting
    assert pickle.loads(pickle.dumps(model)).forgetting_ == expected
    with config_context(slim_pickles=True):
        assert pickle.loads(pickle.dumps(model)).forgetting_ == expected


def test_pickle_of_a_backbone_that_came_as_an_object():
    backbone = load_backbone("efficientnet_lite0", image_size=64)
    model = pickle.loads(pickle.dumps(fitted(backbone=backbone, freeze=8)))
    with pytest.raises(AttributeError, match="a pickle of a backbone that came as an"):
        model.forgetting_  # noqa: B018


def test_network_without_a_classifier():
    def make():
        return nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 4))

    rows = np.random.default_rng(0).normal(size=(20, 3))
    model = FineTunedClassifier(make, max_epochs=1, freeze="none", batch_size=8)
    model.fit(rows, np.arange(20) % 2)
    assert not hasattr(model, "forgetting_")
    with pytest.raises(AttributeError, match="`forgetting_` needs weights that came "):
        model.forgetting_  # noqa: B018


def test_photographs_are_always_the_same():
    first = photographs(4, 50)
    assert first.shape == (4, 50, 50, 3) and first.std() > 20
    np.testing.assert_array_equal(first, photographs(4, 50))
