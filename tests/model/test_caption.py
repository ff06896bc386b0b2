import html
import re

import numpy as np
from torch import nn

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.model import caption_of


def make_network():
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU())


def test_caption_says_what_was_trained_on_what():
    X, y = np.random.RandomState(0).rand(6, 4), [0, 1] * 3
    model = FineTunedClassifier(make_network, freeze="all", random_state=0).fit(X, y)
    assert caption_of(model.model_) == (
        "Sequential: 2 of 2 stages frozen (up to features); linear probe on 6 samples; "
        "license not stated"
    )
    model = model.set_params(freeze="none", max_epochs=1).fit(X, y)
    assert caption_of(model.model_) == (
        "Sequential: 0 of 2 stages frozen; full fine-tuning on 6 samples; "
        "license not stated"
    )
    (shown,) = re.findall(r'<div class="caption">(.*?)</div>', model._repr_html_())
    assert html.unescape(shown) == caption_of(model.model_)


def test_caption_of_features_has_the_license():
    X = np.zeros((2, 8, 8))
    model = PretrainedFeatureExtractor(stage=["stem", "blocks.1"]).fit(X)
    expected = "efficientnet_lite0: features after stem, blocks.1; license apache-2.0"
    assert caption_of(model.model_) == expected
