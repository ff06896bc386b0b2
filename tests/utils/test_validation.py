import re

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from torch import nn

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor, utils
from sktransfer.utils import (
    _validation,
    captioned_block,
    check_sample_weight,
    spawn_seed,
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


def make_network():
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU())


def test_fitted_estimators_show_their_depth():
    X, y = np.random.RandomState(0).rand(6, 4), [0, 1] * 3
    for freeze, expected in [("none", "0 of 2 stages frozen"), (1, "1 of 2 stages")]:
        settings = {"max_epochs": 1, "random_state": 0}
        model = FineTunedClassifier(make_network, freeze=freeze, **settings)
        assert captions(model) == []
        assert captions(model.fit(X, y))[0].startswith(expected)
    extractor = PretrainedFeatureExtractor(make_network, stage=[0, 1])
    assert captions(extractor) == []
    assert captions(extractor.fit(X)) == ["Sequential up to stem, 2"]
