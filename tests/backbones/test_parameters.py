import pytest

from sktransfer.backbones import _parameters
from sktransfer.backbones._parameters import count_parameters, n_parameters


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "convnext_atto"])
def test_the_table_says_what_counting_says(name):
    assert n_parameters(f"timm/{name}") == count_parameters(f"timm/{name}")


def test_an_architecture_that_is_not_in_the_table_is_counted(monkeypatch):
    monkeypatch.setattr(_parameters, "_table", dict)
    assert n_parameters("timm/resnet18") == 11_689_512
