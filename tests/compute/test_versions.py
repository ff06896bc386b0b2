from importlib.metadata import version

import torch

from sktransfer import config_context, show_versions
from sktransfer.compute import _versions


def lines(capsys):
    show_versions()
    found = capsys.readouterr().out.splitlines()
    return dict(line.strip().split(": ", 1) for line in found if ": " in line)


def test_versions_of_what_is_needed_and_of_extras(capsys):
    found = lines(capsys)
    for name in ("sktransfer", "torch", "scikit-learn", "transformers", "captum"):
        assert found[name] == version(name)
    assert found["threads"] == str(torch.get_num_threads())
    assert found["device"] in ("cpu", "cuda", "mps")
    assert not {"pytest", "ruff", "sphinx"} & {*found}


def test_package_that_is_not_installed_and_settings(capsys, monkeypatch):
    needs = [
        "numpy>=2",
        "no-such-package>=1 ; extra == 'plot'",
        "b ; extra == 'docs-test'",
    ]
    monkeypatch.setattr(_versions, "requires", lambda name: needs)
    with config_context(precision="float32"):
        found = lines(capsys)
    assert found["no-such-package"] == "not installed" and "b" not in found
    assert found["precision"] == "float32"
