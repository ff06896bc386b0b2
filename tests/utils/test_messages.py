import json
import re
import sys
import warnings

import pytest

from sktransfer.utils import TransferWarning, import_optional, near_matches

STAGES = ["stem", "layer1", "layer2", "layer3", "head"]


@pytest.mark.parametrize(
    ("word", "candidates", "text"),
    [
        ("layr3", ["stem", "layer3"], " Did you mean 'layer3'?"),
        ("Stem", STAGES, " Did you mean 'stem'?"),
        ("resnet18", ["ResNet18"], " Did you mean 'ResNet18'?"),
        ("steam", ["stem", "team"], " Did you mean 'team' or 'stem'?"),
        ("xyz", STAGES, ""),
        ("", STAGES, ""),
        ("stem", [], ""),
    ],
)
def test_near_matches_text(word, candidates, text):
    assert near_matches(word, candidates) == text


def test_near_matches_three_names_are_listed():
    text = near_matches("layer", ["layer1", "layer2", "layer3"])
    assert text == " Did you mean 'layer3', 'layer2' or 'layer1'?"


def test_near_matches_n_limits_the_names():
    assert near_matches("layer", STAGES, n=1).count("layer") == 1


def test_near_matches_accepts_an_iterator():
    assert near_matches("hed", iter(STAGES)) == " Did you mean 'head'?"


def test_import_optional_returns_the_module():
    assert import_optional("json", feature="A test", extra="plot") is json


def test_import_optional_returns_the_submodule():
    module = import_optional("json.decoder", feature="A test", extra="plot")
    assert module.__name__ == "json.decoder"


@pytest.mark.parametrize("module", ["absent_package", "absent_package.sub"])
def test_import_optional_absent_names_feature_and_command(module):
    text = (
        "The curve needs absent_package. "
        "Install it with: pip install 'sktransfer[plot]'"
    )
    with pytest.raises(ImportError, match=f"^{re.escape(text)}$"):
        import_optional(module, feature="The curve", extra="plot")


def test_import_optional_broken_package_keeps_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import absent_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="named 'absent_package'"):
        import_optional("broken_package", feature="The curve", extra="plot")
    assert "broken_package" not in sys.modules


def test_transfer_warning_can_be_silenced_alone():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", TransferWarning)
        warnings.warn("one", TransferWarning, stacklevel=1)
        warnings.warn("other", UserWarning, stacklevel=1)
    assert [str(w.message) for w in caught] == ["other"]
