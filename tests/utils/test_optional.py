import json
import re
import sys

import pytest

from sktransfer.utils import import_optional


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
