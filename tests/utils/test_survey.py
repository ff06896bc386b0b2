from functools import partial

import timm
import torch
from torch import nn
from torch.nn import functional as F

from sktransfer.utils._survey import functions_in, survey_class, survey_function


class Members:
    @property
    def a(self):
        """Has a setter."""

    @a.setter
    def a(self, value):
        """Set nothing."""

    @staticmethod
    def b():
        """Do nothing."""

    c = classmethod(lambda cls: None)
    d = 3


def test_functions_in_members_of_a_class():
    counts = {k: len(functions_in(m)) for k, m in vars(Members).items() if k in "abcd"}
    assert counts == {"a": 2, "b": 1, "c": 1, "d": 0}


def test_survey_holds_as_long_as_nothing_is_patched(monkeypatch):
    found = survey_class(nn.ReLU)
    assert found.holds() and survey_class(nn.ReLU) is found
    assert found.foreign == [] and "relu torch.nn.functional.relu" in found.text
    patched = partial(F.leaky_relu, negative_slope=2)
    with monkeypatch.context() as patch:
        patch.setattr(F, "relu", patched)
        assert not found.holds()
        assert ("relu", patched) in survey_class(nn.ReLU).foreign
    with monkeypatch.context() as patch:
        patch.setattr(nn.ReLU, "new", 3, raising=False)
        assert survey_class(nn.ReLU).text != found.text
    assert survey_class(nn.ReLU).text == found.text


def test_calls_are_followed_some_functions_deep(monkeypatch):
    before = survey_function(timm.layers.create_conv2d)
    monkeypatch.setattr(F, "pad", torch.tanh)
    layer = survey_class(timm.layers.Conv2dSame)
    assert "pad " in layer.text or layer.foreign
    assert survey_function(timm.layers.create_conv2d).text == before.text
