"""How a loaded backbone reads samples, and the settings of its passes."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import nn

from sktransfer.backbones import load_backbone
from sktransfer.inputs import ImagePreprocessing
from sktransfer.model import LoadedBackbone, _loaded


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU())
    preprocessing = ImagePreprocessing((16, 16), 16, "bilinear", (0.5,) * 3, (0.5,) * 3)
    return load_backbone(module, preprocessing=preprocessing)


def load(backbone, *, value_range=None, precision="float32"):
    return LoadedBackbone(backbone, value_range, None, {}, precision, "float32")


def test_samples_are_read_with_the_value_range_of_the_fit(backbone):
    X = np.full((1, 4, 4), 8.0)
    pixels = np.asarray(load(backbone, value_range=(0, 16)).read(X)[0])
    assert (pixels == 128).all()
    with pytest.raises(ValueError, match="value_range"):
        load(backbone).read(X)


@pytest.mark.parametrize(
    ("fitted", "gains", "expected"),
    [
        ("bfloat16", True, "bfloat16"),
        ("bfloat16", False, "folded"),
        ("float32", False, "float32"),
    ],
)
def test_bfloat16_is_for_machines_that_gain_by_it(backbone, fitted, gains, expected):
    with patch.object(_loaded, "gains_by_bfloat16", lambda device: gains):
        runtime = load(backbone, precision=fitted).runtime("cpu", batch_size=2)
    assert runtime.precision == expected
    assert runtime.batch_size == 2
