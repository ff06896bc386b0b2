import numpy as np
import pytest
import torch
from torch import nn

from sktransfer import FineTunedClassifier, PretrainedFeatureExtractor
from sktransfer.backbones import load_backbone
from sktransfer.model._finite import warn_of_non_finite
from tests._bad_input import IMAGES, LABELS, PREPROCESSING


class Named:
    def describe(self, i):
        return f"file {i}"


class Logarithms(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return self.last(self.first(x).log())


def test_samples_that_were_not_read_are_left_out(recwarn):
    features = np.array([[0.0, 1.0], [np.nan, np.nan], [2.0, 3.0]])
    warn_of_non_finite(features, Named(), {1: "no image"}, "network")
    warn_of_non_finite(features[[0, 2]], Named(), None, "network")
    assert not recwarn
    features[2, 1] = np.inf
    with pytest.warns(UserWarning, match="^network computes NaN .* 1 of 3 .* file 2"):
        warn_of_non_finite(features, Named(), {1: "no image"}, "network")


def test_networks_that_compute_nan_are_named():
    backbone = load_backbone(Logarithms(), preprocessing=PREPROCESSING)
    extractor = PretrainedFeatureExtractor(backbone).fit(IMAGES)
    with pytest.warns(UserWarning, match="^Logarithms computes NaN .* 8 of 8 .* 0"):
        assert np.isnan(extractor.transform(IMAGES)).any()
    for freeze in ("all", 0):
        model = FineTunedClassifier(backbone, freeze=freeze, random_state=0)
        with pytest.raises(ValueError, match="network computes NaN .* 8 of 8 samples"):
            model.fit(IMAGES, LABELS)
