import pytest
import timm

from sktransfer.backbones import _parameters
from sktransfer.backbones._parameters import count_parameters, n_parameters


@pytest.mark.parametrize(
    "name", ["resnet26", "vit_tiny_patch16_224", "tf_efficientnet_lite0"]
)
def test_table_agrees_with_the_network(name):
    assert f"timm/{name}" in _parameters._table()
    module = timm.create_model(name)
    counted = sum(p.numel() for p in module.parameters())
    assert n_parameters(f"timm/{name}") == count_parameters(f"timm/{name}") == counted


def test_architecture_that_is_not_in_the_table_is_counted(monkeypatch):
    monkeypatch.setattr(_parameters, "_table", dict)
    assert n_parameters("timm/test_resnet") == 469_688


def test_table_has_nearly_all_architectures():
    known = _parameters._table()
    names = timm.list_models()
    assert sum(f"timm/{name}" in known for name in names) / len(names) > 0.9
